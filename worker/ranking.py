"""The answer to one query: songs in order, each with what speaks for it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from worker.attribution.calibrate import (
    Background,
    Bounds,
    Fit,
    Known,
    Scale,
    Shares,
    fitted_shares,
    none,
    shares,
    spread,
)
from worker.attribution.provenance import UNKNOWN, Provenance
from worker.attribution.reliability import Reliability, draw_agreement, hub_agreement, reliability
from worker.index import Index
from worker.matches import Match, Numbers, matches_of, twins
from worker.scan import best

MOST = 10_000
_MATCHED_SONGS = 100
_TWINS_AMONG = 50


@dataclass(frozen=True)
class Check:
    """What finite-step unlearning measured for a song's first match, in units of that match's score.

    mirrored: how the segment changes when the track is forgotten; forward: how the track changes when the segment is
    forgotten, None where that was not measured.
    """

    mirrored: float
    forward: float | None


@dataclass(frozen=True)
class Interval:
    """Where 90 % intervals of a song's score and share begin and end."""

    score_low: float
    score_high: float
    share_low: float
    share_high: float


@dataclass(frozen=True)
class SongInfluence:
    """One row of a result.

    score: what the method says of the song; effect: rise of the track's loss that it stands for, None without a
    calibration; share: of the track, 0 to 1; percentile: of the score among unrelated generated tracks, 0 to 100.
    """

    key: str
    score: float
    effect: float | None
    share: float
    interval: Interval
    percentile: float
    check: Check | None
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class Ranking:
    """The songs in order of influence, all or the first `MOST`; shares and `unattributed` sum to 1; timings in seconds.

    reference_loss: ΔL_ref, all that the model knows about the track; calibrated: whether shares are parts of it, rather
    than relative to one another; abstained: why there are no shares, None where there are.
    """

    influences: tuple[SongInfluence, ...]
    unattributed: float
    provenance: Provenance
    reference_loss: float
    calibrated: bool
    abstained: str | None
    reliability: dict[str, Any]
    timings: dict[str, float]
    details: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What a method found about a track.

    scores: of every kept segment [n], or what gives those of some; songs: of every song [songs]; window: likewise the
    track's window that each segment fits best; groups: song scores [4, songs] from four disjoint quarters of the draws;
    background: of this method; checks: of some songs, by number; linearisation: see `Reliability`; fit: how well the
    model predicts the track;
    facts: what the auditor needs beside.
    """

    scores: Numbers
    songs: Tensor
    window: Numbers
    groups: Tensor
    background: Background
    checks: dict[int, Check]
    linearisation: float | None
    fit: Fit
    facts: dict[str, Any]


@dataclass(frozen=True)
class Meaning:
    """What is known beside the evidence: whose track it seems to be, and what a score costs, None where not fitted."""

    provenance: Provenance = UNKNOWN
    scale: Scale | None = None


@dataclass(frozen=True)
class Amounts:
    """What the songs are given, [songs] each: effects None without a scale; bounds of the scores; shares."""

    effects: Tensor | None
    scores: Bounds
    shares: Shares


def ranked(
    index: Index, evidence: Evidence, track_starts: Sequence[float], meaning: Meaning, most: int = MOST
) -> Ranking:
    """Order the songs by `evidence`; `track_starts` are the seconds at which the track's windows start.

    Rows are made for the `most` best songs; what the others' shares would be is unattributed.
    """
    order = best(evidence.songs, most)
    trust = trusted(evidence)
    abstained = why_abstain(meaning.provenance, trust, evidence.fit)
    amounts = weighed(evidence, meaning.scale, abstain=abstained is not None)
    rows = _Columns.of(evidence, amounts, order)
    songs = order.tolist()
    matches = matches_of(index, evidence, songs[:_MATCHED_SONGS], track_starts)
    influences = tuple(
        SongInfluence(
            key=index.manifest.songs[song].key,
            check=evidence.checks.get(song),
            matches=matches.get(song, ()),
            **rows.of_place(place),
        )
        for place, song in enumerate(songs)
    )
    left = 1.0 - sum(row.share for row in influences) if len(songs) < len(evidence.songs) else None
    return Ranking(
        influences=influences,
        unattributed=amounts.shares.unattributed if left is None else max(0.0, left),
        provenance=meaning.provenance,
        reference_loss=evidence.fit.reference,
        calibrated=meaning.scale is not None,
        abstained=abstained,
        reliability=asdict(trust),
        timings={},
        details=evidence.facts | {"twins": twins(index, songs[:_TWINS_AMONG])},
    )


@dataclass(frozen=True)
class _Columns:
    """The numbers of the rows of an answer, a list each, in order."""

    scores: list[float]
    effects: list[float] | None
    shares: list[float]
    percentiles: list[float]
    bounds: list[list[float]]

    @classmethod
    def of(cls, evidence: Evidence, amounts: Amounts, order: Tensor) -> "_Columns":
        """Take the songs in `order` out of what all songs are given."""
        given, scores = amounts.shares, amounts.scores
        return cls(
            evidence.songs[order].tolist(),
            None if amounts.effects is None else amounts.effects[order].tolist(),
            given.shares.to(order.device)[order].tolist(),
            evidence.background.percentile(evidence.songs, order).tolist(),
            [x.to(order.device)[order].tolist() for x in (scores.low, scores.high, given.low, given.high)],
        )

    def of_place(self, place: int) -> dict[str, Any]:
        """Return the numbers of one row, by the names of `SongInfluence`."""
        return {
            "score": self.scores[place],
            "effect": None if self.effects is None else self.effects[place],
            "share": self.shares[place],
            "interval": Interval(*(bound[place] for bound in self.bounds)),
            "percentile": self.percentiles[place],
        }


def trusted(evidence: Evidence) -> Reliability:
    """Return how far the ranking of `evidence` is to be believed."""
    draws = draw_agreement(evidence.groups)
    return reliability(draws, evidence.linearisation, hub_agreement(evidence.songs, evidence.background))


def why_abstain(provenance: Provenance, trust: Reliability, fit: Fit) -> str | None:
    """Return why no song may be given a share, None where nothing speaks against it."""
    if provenance.verdict == "foreign":
        return "the track does not seem to be this model's"
    if not fit.reference > 0:
        return "the model predicts the track no better than nothing would"
    if trust.verdict == "poor":
        return "the ranking is unreliable: its own parts disagree"
    return None


def weighed(evidence: Evidence, scale: Scale | None, *, abstain: bool) -> Amounts:
    """Return what each song is given: by the fitted scale, or without one by the provisional rule."""
    scores = spread(evidence.songs, evidence.groups)
    if scale is None:
        given = shares(evidence.songs, scores, evidence.background)
        return Amounts(None, scores, none(len(evidence.songs)) if abstain else given)
    effects = scale.effect(evidence.songs)
    known = Known(evidence.background, evidence.fit.reference)
    given = fitted_shares(evidence.songs, effects, scale.bounds(evidence.songs, scores), known)
    return Amounts(effects, scores, none(len(evidence.songs)) if abstain else given)
