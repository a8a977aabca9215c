"""What an answer means: scores against a background, effects and shares.

    effect_i = b · (s_i)₊                         what losing song i would cost the model on this track
    share_i  = effect_i / ΔL_ref                  of what the model knows about the track
    ΔL_ref   = L₀ − L                             predicting nothing against the model as it is

b is fitted on models retrained without a track's best songs (`Scale`); without that fit shares follow a provisional
rule that has no unit. Everything that is not given to a song stays `unattributed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from worker.attribution.evaluate import average_ranks

THRESHOLD = 0.95
LEVEL = 0.9
_Z = 1.645  # of the normal distribution: LEVEL lies within so many deviations
# Student's t at (1 + LEVEL)/2 for 1, 2, … degrees of freedom
_T = (6.3138, 2.9200, 2.3534, 2.1318, 2.0150, 1.9432, 1.8946)


@dataclass(frozen=True)
class Background:
    """Song scores of unrelated generated tracks, [b, songs]: what a song gets from just any track."""

    scores: Tensor

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or not len(self.scores) or not bool(self.scores.isfinite().all()):
            raise ValueError(f"a background is [b, songs] finite scores with b >= 1: {list(self.scores.shape)}")

    @cached_property
    def threshold(self) -> Tensor:
        """The 95th percentile of every song's own background: [songs]."""
        return self.scores.double().quantile(THRESHOLD, dim=0)

    @cached_property
    def mean(self) -> Tensor:
        """Every song's mean over its background, in float64: [songs]."""
        return self.scores.double().mean(0)

    @cached_property
    def mean_ranks(self) -> Tensor:
        """The ranks of the songs' means: [songs]."""
        return average_ranks(self.mean)

    def percentile(self, scores: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return the percentage of background tracks that score each song lower, or each of those `chosen`: 0 … 100.

        It places a score among unrelated tracks; it is not the probability that the song had no influence.
        """
        self.check(scores)
        known, found = (self.scores, scores) if chosen is None else (self.scores[:, chosen], scores[chosen])
        return 100 * (known.to(found) < found).double().mean(0)

    def check(self, scores: Tensor) -> None:
        """Raise ValueError for scores of other songs or not finite."""
        if scores.shape != self.scores.shape[1:] or not bool(scores.isfinite().all()):
            raise ValueError(f"expected {self.scores.shape[1]} finite song scores, got {list(scores.shape)}")


@dataclass(frozen=True)
class Fit:
    """How well the model predicts a track.

    loss: mean denoising loss; nothing: mean square of the target, which is what predicting nothing would cost.
    """

    loss: float
    nothing: float

    @property
    def reference(self) -> float:
        """ΔL_ref: how much lower than that of predicting nothing the model's loss is; may be negative."""
        return self.nothing - self.loss


def fit_of(profile: Tensor, weights: Tensor) -> Fit:
    """Return the fit of a track from `measure.profile` [2, s, draws] and segment weights [s] ≥ 0.

    Raises ValueError where no segment has weight.
    """
    if not float(weights.sum()) > 0:
        raise ValueError("some segment needs music")
    weights = weights.double().cpu()
    loss, nothing = (profile.double().cpu().mean(2) @ (weights / weights.sum())).tolist()
    return Fit(loss, nothing)


@dataclass(frozen=True)
class Shares:
    """Non-negative shares of the songs [songs] and what is left; together they are 1.

    low, high: what the stated interval of each song's effect makes of its share, 0 for a song within its background.
    """

    shares: Tensor
    low: Tensor
    high: Tensor
    unattributed: float


def none(songs: int) -> Shares:
    """Return the shares of an answer that abstains: everything is unattributed."""
    zeros = torch.zeros(songs, dtype=torch.float64)
    return Shares(zeros, zeros, zeros, 1.0)


def shares(scores: Tensor, spread: Bounds, background: Background) -> Shares:
    """Return share_i = min(s_i, s_i − q95_i)₊ / Σ_j (s_j)₊: only what exceeds the song's own background counts.

    The rule of an uncalibrated model, relative and without a unit. What a song would get from any track, and what lies
    below its threshold, stays in `unattributed`; so does everything where no score is positive.
    """
    background.check(scores)
    total = scores.double().clamp(min=0).sum().clamp(min=1e-300)
    parts = [_excess(x.double(), background) / total for x in (scores, spread.low, spread.high)]
    return Shares(parts[0], parts[1], parts[2].clamp(max=1), max(0.0, 1.0 - float(parts[0].sum())))


def _excess(scores: Tensor, background: Background) -> Tensor:
    return torch.minimum(scores, scores - background.threshold.to(scores)).clamp(min=0)


@dataclass(frozen=True)
class Scale:
    """Rise of the loss per unit of score, b, and how far a model retrained once without a song lies from b · score.

    spread: standard deviation of a song's own slope, relative to b; noise: of the loss from one training to another.
    """

    slope: float
    spread: float
    noise: float

    def __post_init__(self) -> None:
        if not (self.slope > 0 and self.spread >= 0 and self.noise >= 0):
            raise ValueError(f"slope > 0, spread >= 0 and noise >= 0: {self}")

    def effect(self, scores: Tensor) -> Tensor:
        """Return b · (s_i)₊."""
        return self.slope * scores.double().clamp(min=0)

    def bounds(self, scores: Tensor, drawn: Bounds) -> Bounds:
        """Return where 90 % of single retrainings without each song are expected, [songs] each; below 0 too.

        b · s ± √(d² + z² ((spread · b · s)² + noise²)), d half of what other noise draws would change (`drawn`).
        """
        effect = self.effect(scores)
        draws = self.slope * (drawn.high.double() - drawn.low.double()) / 2
        half = (draws.square() + _Z**2 * ((self.spread * effect).square() + self.noise**2)).sqrt()
        return Bounds(effect - half, effect + half)


def fitted_shares(scores: Tensor, effects: Tensor, bounds: Bounds, known: Known) -> Shares:
    """Return share_i = effect_i / ΔL_ref for songs above their own background, scaled down where they exceed 1.

    Where the model knows nothing about the track, ΔL_ref ≤ 0, nothing is shared.
    """
    known.background.check(scores)
    if not known.reference > 0:
        return none(len(scores))
    stands_out = scores.double() > known.background.threshold.to(scores.device)
    amounts = (x.double().clamp(min=0) for x in (effects, bounds.low, bounds.high))
    parts = [torch.where(stands_out, x / known.reference, 0.0) for x in amounts]
    down = max(1.0, float(parts[0].sum()))
    part, low, high = (x / down for x in parts)
    return Shares(part, low, high.clamp(max=1), max(0.0, 1.0 - float(part.sum())))


@dataclass(frozen=True)
class Known:
    """What shares are measured against: the songs' background, and ΔL_ref."""

    background: Background
    reference: float


@dataclass(frozen=True)
class Bounds:
    """A lower and an upper bound for every song, [songs] each."""

    low: Tensor
    high: Tensor


def spread(scores: Tensor, groups: Tensor) -> Bounds:
    """Return the 90 % interval of `scores` [songs] that their disjoint `groups` of draws [g, songs] give.

    s_i ± t · sd_g(s_ig)/√g, t of Student's distribution with g − 1 degrees of freedom. It holds what other noise draws
    would change and nothing else: neither another projection nor another training run. Raises ValueError unless
    2 ≤ g ≤ 8.
    """
    count = len(groups)
    if groups.shape[1:] != scores.shape or not 2 <= count <= len(_T) + 1:
        raise ValueError(f"2 to {len(_T) + 1} groups of {list(scores.shape)} scores, not {list(groups.shape)}")
    half = _T[count - 2] * groups.double().std(0) / count**0.5
    return Bounds(scores.double() - half, scores.double() + half)
