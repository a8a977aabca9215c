"""Dose–response: predicted effects with stated intervals against what retraining without the group showed.

What is retrained has noise of its own: an interval that does not include it covers less, and the mean over few seeds
leaves the slope as it is but makes the share covered smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worker.attribution.evaluate import Bootstrap, Interval, interval, spearman


@dataclass(frozen=True)
class Effects:
    """Pairs of query and group: `predicted`, stated bounds `low` and `high`, `retrained` change, `query`: [n]."""

    predicted: Tensor
    low: Tensor
    high: Tensor
    retrained: Tensor
    query: Tensor

    @property
    def covered(self) -> Tensor:
        """Which retrained changes lie within the stated bounds: [n] bool."""
        return (self.low <= self.retrained) & (self.retrained <= self.high)


@dataclass(frozen=True)
class Response:
    """Share covered; slope of the retrained on the predicted change, 1 where predictions are to scale; Spearman; n."""

    covered: Interval
    slope: Interval
    spearman: float
    n: int


def response(effects: Effects, bootstrap: Bootstrap | None = None) -> Response:
    """Judge predicted effects; whole queries are resampled, since groups of one query share its error."""
    how = bootstrap or Bootstrap()
    x, y, covered = effects.predicted.double(), effects.retrained.double(), effects.covered.double()
    weights = _weights(effects.query, how)
    shares = (weights * covered).sum(1) / weights.sum(1)
    slopes = _slope(x, y, weights)
    return Response(
        interval(float(shares[0]), shares[1:], how.level),
        interval(float(slopes[0]), slopes[1:], how.level),
        float(spearman(x, y)),
        len(x),
    )


def _slope(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Return the least-squares slope of y on x with an intercept under every row of weights [b, n]: [b]."""
    total = weights.sum(1, keepdim=True)
    dx, dy = (v - (weights * v).sum(1, keepdim=True) / total for v in (x, y))
    return (weights * dx * dy).sum(1) / (weights * dx * dx).sum(1).clamp(min=1e-300)


def _weights(query: Tensor, how: Bootstrap) -> Tensor:
    """Return how often each pair was drawn, [1 + resamples, n]; the first row is the data."""
    _, cluster = query.unique(return_inverse=True)
    many = int(cluster.max()) + 1
    picks = torch.randint(many, (how.resamples, many), generator=torch.Generator().manual_seed(how.seed))
    counts = torch.stack([torch.bincount(pick, minlength=many) for pick in picks]).double()
    return torch.cat([torch.ones(1, len(query), dtype=torch.float64), counts[:, cluster]])
