"""Faithfulness: whether the scores predict what retraining without some songs does.

    LDS(q) = Spearman over models m of  Σ_{i ∈ S_m} τ(q, i)  and  −L(q; θ_m)     (linear datamodeling score, 2303.14186)

θ_m is trained on the songs S_m alone. Losses of different queries move together over the models; the centred score
takes that shared part away (each model's mean over the queries) and asks for what is the query's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Truth:
    """What retraining showed: `kept` [m, songs] bool, the songs of every model; `losses` [m, q] of every query."""

    kept: Tensor
    losses: Tensor

    def __post_init__(self) -> None:
        if self.kept.ndim != 2 or self.losses.ndim != 2 or len(self.kept) != len(self.losses) or len(self.kept) < 2:
            raise ValueError(f"kept [m, songs], losses [m, q], m > 1: {self.kept.shape}, {self.losses.shape}")
        if self.kept.dtype != torch.bool or not bool(self.losses.isfinite().all()):
            raise ValueError("kept is bool and losses are finite")


@dataclass(frozen=True)
class Bootstrap:
    """How an interval is drawn: resamples of queries × models, their seed, and the mass inside."""

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and the bounds that hold `Bootstrap.level` of its resampled values."""

    value: float
    low: float
    high: float


def average_ranks(x: Tensor) -> Tensor:
    """Return ranks from 1 along the last axis, equal values sharing their mean rank: [..., n] float64."""
    ordered, order = x.contiguous().sort(dim=-1)
    first = torch.searchsorted(ordered, ordered, right=False)
    last = torch.searchsorted(ordered, ordered, right=True)
    return torch.empty_like(x, dtype=torch.float64).scatter_(-1, order, (first + last + 1).double() / 2)


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Return the rank correlation along the last axis, [..., n] each → [...]; 0 where one side is constant."""
    if x.shape != y.shape or x.shape[-1] < 2:
        raise ValueError(f"rank correlation needs equal shapes of at least 2: {list(x.shape)} and {list(y.shape)}")
    return pearson(average_ranks(x), average_ranks(y))


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Return the correlation along the last axis, [..., n] each → [...]; 0 where one side is constant."""
    a, b = (r - r.mean(-1, keepdim=True) for r in (x, y))
    scale = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(scale > 0, (a * b).sum(-1) / scale.clamp(min=1e-300), 0.0)


def lds(scores: Tensor, truth: Truth, centred: bool = False) -> Tensor:
    """Return the linear datamodeling score of each query: scores [q, songs] → [q] in [−1, 1].

    Centring touches the truth alone: the scale of scores may differ from query to query, and Spearman does not mind.
    """
    return _agreement(_predicted(scores, truth), truth.losses, centred)


def paired_difference(
    first: Tensor, second: Tensor, truth: Truth, centred: bool = False, bootstrap: Bootstrap | None = None
) -> Interval:
    """Return the mean LDS of `first` minus that of `second`, [q, songs] each, with a two-way bootstrap interval.

    Queries and models are resampled together and both methods meet the same resample: queries share the models, so
    resampling queries alone would claim too much.
    """
    bootstrap = bootstrap or Bootstrap()
    models, queries = truth.losses.shape
    both = _predicted(first, truth), _predicted(second, truth)

    def gap(q: Tensor, m: Tensor) -> float:
        one, other = (_agreement(each[q][:, m], truth.losses[m][:, q], centred) for each in both)
        return float((one - other).mean())

    resampled = [gap(q, m) for q, m in draws(bootstrap, queries, models)]
    value = gap(torch.arange(queries), torch.arange(models))
    return interval(value, torch.tensor(resampled, dtype=torch.float64), bootstrap.level)


def draws(bootstrap: Bootstrap, queries: int, models: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the numbers of the queries [queries] and of the models [models] of every resample, with replacement."""
    generator = torch.Generator().manual_seed(bootstrap.seed)
    for _ in range(bootstrap.resamples):
        picks = torch.randint(queries, (queries,), generator=generator)
        yield picks, torch.randint(models, (models,), generator=generator)


def interval(value: float, resampled: Tensor, level: float = 0.95) -> Interval:
    """Return `value` with the quantiles of its `resampled` values [b] that hold `level` of them (percentile bounds)."""
    tail = (1 - level) / 2
    low, high = resampled.double().quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64))
    return Interval(value, float(low), float(high))


def _predicted(scores: Tensor, truth: Truth) -> Tensor:
    """Return Σ_{i ∈ S_m} τ(q, i) as [q, m]; made once, so that a model drawn twice ties with itself."""
    if scores.shape != (truth.losses.shape[1], truth.kept.shape[1]):
        raise ValueError(f"scores are [q, songs] = {[truth.losses.shape[1], truth.kept.shape[1]]}: {scores.shape}")
    return scores.double() @ truth.kept.double().mT


def _agreement(predicted: Tensor, losses: Tensor, centred: bool) -> Tensor:
    gain = -losses.double()
    if centred:
        gain = gain - gain.mean(1, keepdim=True)
    return spearman(predicted, gain.mT)
