"""How far to believe an answer: do its draws agree, do finite steps bear it out, is it about this track at all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import torch

from worker.attribution.evaluate import average_ranks, pearson, spearman

if TYPE_CHECKING:
    from torch import Tensor

    from worker.attribution.calibrate import Background

Verdict = Literal["good", "fair", "poor"]
GOOD, FAIR = 0.8, 0.5
HUBS = 0.9


@dataclass(frozen=True)
class Reliability:
    """How far the ranking is to be believed.

    draws: rank correlation to expect between these song scores and those of as many other draws; linearisation: rank
    correlation of predicted and measured finite-step changes, None where none was measured; hubs: rank correlation
    with what any track gives, near 1 where the answer says little about this one.
    """

    draws: float
    linearisation: float | None
    hubs: float
    verdict: Verdict


def agreement(a: Tensor, b: Tensor) -> float:
    """Return the Spearman correlation of two score vectors [n]; 0 where one is constant."""
    return float(spearman(a, b))


def draw_agreement(groups: Tensor) -> float:
    """Return the reliability of the scores of all draws from those of their groups [g, songs].

    r is the mean Spearman correlation over pairs of groups; Spearman and Brown: g r / (1 + (g − 1) r), 0 for r ≤ 0.
    """
    if len(groups) < 2:
        raise ValueError("agreement takes at least two groups")
    ranks = average_ranks(groups)
    pairs = [float(pearson(ranks[i], ranks[j])) for i, j in combinations(range(len(groups)), 2)]
    mean = max(0.0, sum(pairs) / len(pairs))
    return len(groups) * mean / (1 + (len(groups) - 1) * mean)


def reliability(draws: float, linearisation: float | None, hubs: float) -> Reliability:
    """Judge by the weaker of draws and linearisation: good from 0.8, fair from 0.5, else poor; hubs are fair at best.

    After ARIA (arXiv 2605.16181): an answer that agrees with the background's mean to 0.9 or more says little about
    this track.
    """
    weakest = min(draws, draws if linearisation is None else linearisation)
    best: Verdict = "fair" if hubs >= HUBS else "good"
    verdict: Verdict = best if weakest >= GOOD else "fair" if weakest >= FAIR else "poor"
    return Reliability(draws, linearisation, hubs, verdict)


def hub_agreement(scores: Tensor, background: Background) -> float:
    """Return the Spearman correlation of the scores [songs] with the background's mean: near 1, the answer is hubs.

    Hubs are songs that every track seems to owe something; they say little about this track (ARIA, arXiv 2605.16181).
    """
    background.check(scores)
    return float(pearson(average_ranks(scores.double()), background.mean_ranks.to(scores.device)))


def effective_rank(scores: Tensor) -> float:
    """Return (Σ λ)² / Σ λ² of the score matrix [q, songs], λ its squared singular values: 1 … min(q, songs).

    Near 1, every query gets the same ranking. Raises ValueError for an all-zero matrix.
    """
    energy = torch.linalg.svdvals(scores.double()).square()
    if not float(energy.sum()) > 0:
        raise ValueError("a matrix of zeros has no rank to speak of")
    return float(energy.sum().square() / energy.square().sum())
