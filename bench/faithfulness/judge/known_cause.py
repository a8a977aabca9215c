"""Known causes: songs copied into training more or less often, and training segments that ask for their own song.

Doses are how often a song was in training, 0 … 16; a planted song has dose 0, every ordinary song 1. Scores are
compared within a query: standardised by the mean and deviation of the query's songs of dose 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from worker.attribution.evaluate import Bootstrap, Interval, average_ranks, interval, spearman

ORDINARY = 1


@dataclass(frozen=True)
class Share:
    """How many of `n`, as a share with its 95 % interval (Wilson, 1927)."""

    count: int
    n: int
    low: float
    high: float

    @staticmethod
    def of(hits: Tensor) -> Share:
        """Count a bool tensor of any shape."""
        count, n, z = int(hits.sum()), hits.numel(), 1.959964
        if not n:
            raise ValueError("a share of nothing")
        middle, half = (count + z * z / 2) / (n + z * z), z * sqrt(count * (n - count) / n + z * z / 4) / (n + z * z)
        return Share(count, n, max(0.0, middle - half), min(1.0, middle + half))

    @property
    def value(self) -> float:
        """The share itself."""
        return self.count / self.n


def standardised(scores: Tensor, dose: Tensor) -> Tensor:
    """Return (score − mean) / deviation, both over the query's songs of dose 1: scores [q, songs], dose alike."""
    ordinary = (dose == ORDINARY).double()
    count = ordinary.sum(1, keepdim=True)
    mean = (scores * ordinary).sum(1, keepdim=True) / count
    variance = ((scores - mean).square() * ordinary).sum(1, keepdim=True) / (count - 1)
    return (scores - mean) / variance.sqrt().clamp(min=1e-300)


def by_dose(scores: Tensor, dose: Tensor, bootstrap: Bootstrap | None = None) -> dict[int, Interval]:
    """Return the mean standardised score of every dose, [q, songs] both; queries are resampled."""
    how = bootstrap or Bootstrap()
    units = standardised(scores.double(), dose)
    picks = _picks(len(scores), how)
    found = {}
    for level in sorted(set(dose.flatten().tolist())):
        chosen = (dose == level).double()
        total, count = (units * chosen).sum(1), chosen.sum(1)
        resampled = total[picks].sum(1) / count[picks].sum(1).clamp(min=1)
        found[int(level)] = interval(float(total.sum() / count.sum()), resampled, how.level)
    return found


def rises(scores: Tensor, dose: Tensor, bootstrap: Bootstrap | None = None) -> Interval:
    """Return the mean over queries of Spearman(score, dose) over all songs, [q, songs] both."""
    return _mean(spearman(scores.double(), dose.double()), bootstrap)


def auc(positive: Tensor, negative: Tensor) -> float:
    """Return the chance that a positive [p] lies above a negative [n], ties half: the area under the ROC."""
    ranks = average_ranks(torch.cat([positive, negative]).double())[: len(positive)]
    p, n = len(positive), len(negative)
    return float((ranks.sum() - p * (p + 1) / 2) / (p * n))


def present_against_planted(scores: Tensor, dose: Tensor, least: int = 1) -> Tensor:
    """Return each query's AUC of songs of dose `least` or more against planted ones: [q, songs] both → [q]."""
    return torch.tensor([auc(s[d >= least], s[d == 0]) for s, d in zip(scores, dose, strict=True)], dtype=torch.float64)


def threshold(scores: Tensor, planted: Tensor, level: float = 0.95) -> float:
    """Return the quantile of standardised scores [q, songs] of the songs `planted` [songs] or [q, songs] bool."""
    return float(scores[planted.expand_as(scores)].double().quantile(level))


def called(calls: Tensor, dose: Tensor) -> dict[int, Share]:
    """Return for every dose the share of (query, song) pairs that were called: [q, songs] both."""
    return {int(level): Share.of(calls[dose == level]) for level in sorted(set(dose.flatten().tolist()))}


def of_own(values: Tensor, own: Tensor) -> Tensor:
    """Return each query's value for its own song: [q, songs], own [q] → [q, 1]."""
    return values.gather(1, own[:, None])


@dataclass(frozen=True)
class Retrieval:
    """Where training segments find their own song: mean rank, share first, and mean area under the ROC."""

    n: int
    first: Share
    mean_rank: Interval
    auc: Interval


def retrieval(scores: Tensor, own: Tensor, bootstrap: Bootstrap | None = None) -> Retrieval:
    """Rank each query's own song among all: scores [q, songs], own [q]; equal scores share their mean rank."""
    rank = of_own(average_ranks(-scores.double()), own)[:, 0]
    area = 1 - (rank - 1) / (scores.shape[1] - 1)
    return Retrieval(len(own), Share.of(rank == 1), _mean(rank, bootstrap), _mean(area, bootstrap))


def mean_auc(areas: Tensor, bootstrap: Bootstrap | None = None) -> Interval:
    """Return the mean of the queries' areas [q], queries resampled."""
    return _mean(areas, bootstrap)


def _mean(values: Tensor, bootstrap: Bootstrap | None) -> Interval:
    how = bootstrap or Bootstrap()
    return interval(float(values.mean()), values[_picks(len(values), how)].mean(1), how.level)


def _picks(among: int, how: Bootstrap) -> Tensor:
    return torch.randint(among, (how.resamples, among), generator=torch.Generator().manual_seed(how.seed))
