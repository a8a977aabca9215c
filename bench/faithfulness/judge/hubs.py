"""Hubs: songs that every query seems to owe something, and how much of a method is nothing else (ARIA, 2605.16181)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.faithfulness.judge.humble import mean_of_others
from worker.attribution.evaluate import spearman
from worker.attribution.reliability import effective_rank

TOP = 10


@dataclass(frozen=True)
class Hubs:
    """How much of a method is the same for every query.

    overlap: mean Jaccard of the top ten songs over pairs of queries; shared: mean Spearman of a query's scores with the
    mean of the others'; rank: effective rank of the scores, rows at unit length.
    """

    overlap: float
    shared: float
    rank: float


def hubs(scores: Tensor) -> Hubs:
    """Judge a matrix [q, songs]."""
    rows = torch.nn.functional.normalize(scores.double(), dim=1)
    shared = spearman(rows, mean_of_others(rows)).mean()
    return Hubs(overlap(scores), float(shared), effective_rank(rows))


def overlap(scores: Tensor, top: int = TOP) -> float:
    """Return the mean over pairs of queries of |A ∩ B| / |A ∪ B|, A and B their `top` songs: scores [q, songs]."""
    chosen = torch.zeros_like(scores, dtype=torch.float64)
    chosen.scatter_(1, scores.argsort(dim=1, descending=True, stable=True)[:, :top], 1.0)
    common = chosen @ chosen.mT
    jaccard = common / (2 * top - common)
    pairs = len(scores) * (len(scores) - 1)
    return float((jaccard.sum() - jaccard.diagonal().sum()) / pairs)
