"""Rank correlations of many resamples at once.

In a resample in which element j occurs c_j times, the average rank of element i, less the mean rank, is
½ Σ_j c_j sign(x_i − x_j): a matrix of signs, made once, times the counts. Everything is a multiple of ½ and stays
exact in float32 up to 128 elements, so the result is that of `worker.attribution.evaluate` to its last digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.evaluate import Bootstrap, Interval, draws, interval

if TYPE_CHECKING:
    from collections.abc import Sequence

TOGETHER = 8


@dataclass(frozen=True)
class Resamples:
    """How often every query [b, q] and every retrained model [b, m] was drawn; row 0 is the data, each drawn once."""

    queries: Tensor
    models: Tensor
    level: float = 0.95

    @staticmethod
    def draw(clusters: Tensor, models: int, bootstrap: Bootstrap | None = None) -> Resamples:
        """Draw queries × models as `worker.attribution.evaluate.paired_difference` does.

        clusters [q]: from 0, which queries are drawn together; `torch.arange(q)` where all are independent.
        """
        how, many = bootstrap or Bootstrap(), int(clusters.max()) + 1
        q, m = zip((torch.arange(many), torch.arange(models)), *draws(how, many, models), strict=True)
        return Resamples(_counts(q, many)[:, clusters], _counts(m, models), how.level)

    def interval(self, values: Tensor) -> Interval:
        """Return the first of `values` [b] and the bounds of the others."""
        return interval(float(values[0]), values[1:], self.level)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the resampled queries that have a value, the others are NaN: [q, b] → [b] float64."""
        weights = self.queries.mT * values.isfinite()
        return (values.double().nan_to_num() * weights).sum(0) / weights.sum(0)


def _counts(picks: Sequence[Tensor], among: int) -> Tensor:
    return torch.stack([torch.bincount(pick, minlength=among) for pick in picks]).float()


def signs(x: Tensor) -> Tensor:
    """Return sign(x_i − x_j) of every pair: [..., m] → [..., m, m] float32."""
    return (x[..., :, None] - x[..., None, :]).sign().float()


@dataclass(frozen=True)
class Ranked:
    """Twice the centred average ranks of q rows of m elements in b resamples, times the counts: [q, m, b] float32.

    norm: √Σ counts × ranks² [q, b] float64.
    """

    weighted: Tensor
    norm: Tensor

    @staticmethod
    def of(ranks: Tensor, resamples: Resamples) -> Ranked:
        """Weigh `ranks` [q, m, b] by the counts of the resamples."""
        weighted = ranks * resamples.models.mT
        return Ranked(weighted, (weighted * ranks).sum(1).double().sqrt())


def ranked(x: Tensor, resamples: Resamples) -> Ranked:
    """Rank x [q, m] within every resample of models."""
    return Ranked.of(signs(x) @ resamples.models.mT, resamples)


def ranked_centred(x: Tensor, resamples: Resamples) -> Ranked:
    """Rank x [q, m] less each model's mean over the queries, both as resampled.

    Within a resample the mean is over that resample's queries, so the centring is as uncertain as it really is.
    """
    share = resamples.queries.double() / resamples.queries.sum(1, keepdim=True)
    own = x.double()
    parts = []
    for weights, counts in zip(share.split(TOGETHER), resamples.models.split(TOGETHER), strict=True):
        centred = own - (weights @ own)[:, None]
        parts.append((signs(centred) @ counts[:, None, :, None])[..., 0])
    return Ranked.of(torch.cat(parts).permute(1, 2, 0).contiguous(), resamples)


def correlations(x: Tensor, others: Sequence[Ranked], resamples: Resamples) -> list[Tensor]:
    """Return the Spearman correlation of x [q, m] with each of `others` in every resample: [q, b] float64 each.

    0 where a side is constant. One query at a time, because what it needs then stays in the processor's cache.
    """
    counts = resamples.models.mT.contiguous()
    found = torch.zeros(len(others), len(x), counts.shape[1], dtype=torch.float64)
    for n, pairs in enumerate(signs(x)):
        place = pairs @ counts
        norm = (place.square() * counts).sum(0).double().sqrt()
        for other, row in zip(others, found, strict=True):
            scale = norm * other.norm[n]
            row[n] = torch.where(scale > 0, (place * other.weighted[n]).sum(0) / scale.clamp(min=1e-300), 0.0)
    return list(found)


def correlation(a: Ranked, b: Ranked, resamples: Resamples) -> Tensor:
    """Return the Spearman correlation of two sides that were ranked already: [q, b] float64."""
    counts = resamples.models.mT
    top = (a.weighted * b.weighted / counts.clamp(min=1)).sum(1).double()
    scale = a.norm * b.norm
    return torch.where(scale > 0, top / scale.clamp(min=1e-300), 0.0)
