"""What a score means: against a background, as a share with an honest remainder, and how far to believe it.

Provisional until fitted on removal retrainings: a share of influence there is b · max(τ_i, 0) / ΔL_ref.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from worker.attribution.evaluate import spearman

Verdict = Literal["good", "fair", "poor"]
GOOD, FAIR = 0.8, 0.5
THRESHOLD = 0.95


@dataclass(frozen=True)
class Background:
    """Song scores of unrelated generated tracks, [b, songs]: what a song gets from just any track."""

    scores: Tensor

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or not len(self.scores) or not bool(self.scores.isfinite().all()):
            raise ValueError(f"a background is [b, songs] finite scores with b >= 1: {list(self.scores.shape)}")

    @property
    def threshold(self) -> Tensor:
        """The 95th percentile of every song's own background: [songs]."""
        return self.scores.double().quantile(THRESHOLD, dim=0)

    def percentile(self, scores: Tensor) -> Tensor:
        """Return the percentage of background tracks that score each song lower: [songs] in 0 … 100.

        It places a score among unrelated tracks; it is not the probability that the song had no influence.
        """
        self.check(scores)
        return 100 * (self.scores.to(scores) < scores).double().mean(0)

    def check(self, scores: Tensor) -> None:
        """Raise ValueError for scores of other songs or not finite."""
        if scores.shape != self.scores.shape[1:] or not bool(scores.isfinite().all()):
            raise ValueError(f"expected {self.scores.shape[1]} finite song scores, got {list(scores.shape)}")


@dataclass(frozen=True)
class Shares:
    """Non-negative shares of the songs [songs] and what is left; together they are 1."""

    shares: Tensor
    unattributed: float


def shares(scores: Tensor, background: Background) -> Shares:
    """Return share_i = min(s_i, s_i − q95_i)₊ / Σ_j (s_j)₊: only what exceeds the song's own background counts.

    What a song would get from any track, and what lies below its threshold, stays in `unattributed`; so does everything
    where no score is positive.
    """
    background.check(scores)
    exact = scores.double()
    total = exact.clamp(min=0).sum()
    excess = torch.minimum(exact, exact - background.threshold.to(exact)).clamp(min=0)
    part = excess / total if float(total) > 0 else torch.zeros_like(exact)
    return Shares(part, max(0.0, 1.0 - float(part.sum())))


@dataclass(frozen=True)
class Reliability:
    """How far the ranking is to be believed.

    halves: rank correlation of the song scores from the even and the odd draws; linearisation: rank correlation of
    predicted and measured finite-step changes, None where none was measured.
    """

    halves: float
    linearisation: float | None
    verdict: Verdict


def agreement(a: Tensor, b: Tensor) -> float:
    """Return the Spearman correlation of two score vectors [n]; 0 where one is constant."""
    return float(spearman(a, b))


def reliability(halves: float, linearisation: float | None = None) -> Reliability:
    """Judge by the weaker of the two: good from 0.8, fair from 0.5, else poor (after ARIA, arXiv 2605.16181)."""
    weakest = min(halves, halves if linearisation is None else linearisation)
    verdict: Verdict = "good" if weakest >= GOOD else "fair" if weakest >= FAIR else "poor"
    return Reliability(halves, linearisation, verdict)


def hub_agreement(scores: Tensor, background: Background) -> float:
    """Return the Spearman correlation of the scores [songs] with the background's mean: near 1, the answer is hubs.

    Hubs are songs that every track seems to owe something; they say little about this track (ARIA, arXiv 2605.16181).
    """
    background.check(scores)
    return agreement(scores.double(), background.scores.to(scores).double().mean(0))


def effective_rank(scores: Tensor) -> float:
    """Return (Σ λ)² / Σ λ² of the score matrix [q, songs], λ its squared singular values: 1 … min(q, songs).

    Near 1, every query gets the same ranking. Raises ValueError for an all-zero matrix.
    """
    energy = torch.linalg.svdvals(scores.double()).square()
    if not float(energy.sum()) > 0:
        raise ValueError("a matrix of zeros has no rank to speak of")
    return float(energy.sum().square() / energy.square().sum())
