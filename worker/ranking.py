"""The answer to one query: songs in order, each with what speaks for it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from worker.attribution.calibrate import Background, agreement, reliability, shares
from worker.attribution.influence import rank
from worker.index import Index

_MATCHED_SONGS = 100
_MATCHES = 3
_TWINS_AMONG = 50
_TWIN_COSINE = 0.95


@dataclass(frozen=True)
class Match:
    """A segment of a song and the part of the track that it fits best.

    segment: its number within the song's kept segments; song_start_s, track_start_s: seconds from either's begin;
    seconds: its length; score: the segment's own score.
    """

    segment: int
    song_start_s: float
    track_start_s: float
    seconds: float
    score: float


@dataclass(frozen=True)
class SongInfluence:
    """One row of a result.

    score: sum over the song's segments; share: of the track, 0 to 1; percentile: of the score among unrelated generated
    tracks, 0 to 100; check: what finite-step unlearning measured for the song's first match, in the units of that
    match's score, where it was checked.
    """

    key: str
    score: float
    share: float
    percentile: float
    check: float | None
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class Ranking:
    """All songs of the training set in order of influence; shares and `unattributed` sum to 1; timings in seconds."""

    influences: tuple[SongInfluence, ...]
    unattributed: float
    reliability: dict[str, Any]
    timings: dict[str, float]
    details: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What a method found about a track.

    scores: of every kept segment [n]; window: the track's window that each fits best [n]; halves: song scores
    [2, songs] from the even and the odd draws; background: of this method; checks: song → finite-step change of its
    best segment in units of the score; linearisation: see `Reliability`; facts: what the auditor needs beside.
    """

    scores: Tensor
    window: Tensor
    halves: Tensor
    background: Background
    checks: dict[int, float]
    linearisation: float | None
    facts: dict[str, Any]


def ranked(index: Index, evidence: Evidence, track_starts: Sequence[float]) -> Ranking:
    """Order the songs by `evidence`; `track_starts` are the seconds at which the track's windows start."""
    scores = index.by_song(evidence.scores)
    order = rank(scores)
    shared = shares(scores, evidence.background)
    percentile = evidence.background.percentile(scores)
    matches = _matches(index, evidence, order[:_MATCHED_SONGS].tolist(), track_starts)
    influences = (
        SongInfluence(
            key=index.manifest.songs[song].key,
            score=float(scores[song]),
            share=float(shared.shares[song]),
            percentile=float(percentile[song]),
            check=evidence.checks.get(song),
            matches=matches.get(song, ()),
        )
        for song in order.tolist()
    )
    verdict = reliability(agreement(*evidence.halves), evidence.linearisation)
    facts = evidence.facts | {"twins": _twins(index, order[:_TWINS_AMONG].tolist())}
    return Ranking(tuple(influences), shared.unattributed, asdict(verdict), {}, facts)


def best_segments(index: Index, scores: Tensor, song: int, most: int) -> list[int]:
    """Return the numbers of a song's highest-scoring segments, at most `most`, the highest first."""
    own = index.segments_of(song)
    return [own.start + at for at in torch.argsort(scores[own], descending=True, stable=True)[:most].tolist()]


def _matches(
    index: Index, evidence: Evidence, songs: Sequence[int], track_starts: Sequence[float]
) -> dict[int, tuple[Match, ...]]:
    seconds = index.manifest.segment_seconds
    return {
        song: tuple(
            Match(
                segment=at - index.segments_of(song).start,
                song_start_s=round(index.manifest.songs[song].begins_s + float(index.shard.starts[at]), 3),
                track_start_s=round(track_starts[int(evidence.window[at])], 3),
                seconds=round(seconds, 3),
                score=float(evidence.scores[at]),
            )
            for at in best_segments(index, evidence.scores, song, _MATCHES)
        )
        for song in songs
    }


def _twins(index: Index, songs: Sequence[int]) -> list[list[str]]:
    """Return groups of keys among `songs` whose rows nearly coincide: one such song hides the removal of another."""
    means = torch.stack([index.rows(index.segments_of(song)).mean(0) for song in songs])
    alike = torch.nn.functional.normalize(means, dim=1)
    near = (alike @ alike.mT > _TWIN_COSINE).tolist()
    groups: list[set[int]] = []
    for at, row in enumerate(near):
        linked = {other for other, close in enumerate(row) if close} | {at}
        joined = [group for group in groups if group & linked]
        groups = [group for group in groups if not group & linked] + [linked.union(*joined)]
    return [[index.manifest.songs[songs[at]].key for at in sorted(group)] for group in groups if len(group) > 1]
