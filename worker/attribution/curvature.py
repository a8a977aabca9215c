"""Curvature: by what the gradients are divided before they are compared.

    projected   C = GᵀG/n + λ tr(GᵀG/n)/min(n, k) · I    over the rows G [n, k] of an index     (TRAK, arXiv 2303.14186)
    diagonal    F = E_{i,t,ε} (∇_θ M(x_i; t, ε))²,  then F + λ mean(F)                          (AbU, arXiv 2406.09408)

λ is relative to the mean eigenvalue, of GᵀG over its rank at most: it means the same for every model, measure, row
scaling and number of dimensions; dividing without damping is refused. The curvature is fitted once, on the training
set: adding a song moves nobody else's score.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.hooks import Shape, Sink, UnsupportedWeight, catch, frozen, selected, sizes
from worker.attribution.measure import Probe, blocks, measured, require_ready
from worker.attribution.types import Model, Params, Progress, Segments, silent

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class ProjectedCurvature:
    """C by its lower Cholesky factor [k, k] in float64."""

    factor: Tensor

    @staticmethod
    def fit(rows: Tensor, damping: float) -> ProjectedCurvature:
        """Fit C on index rows [n, k]; raises ValueError for rows that are all zero or not finite, or damping ≤ 0."""
        if rows.ndim != 2 or not len(rows):
            raise ValueError(f"rows are [n, k] with n >= 1, not {list(rows.shape)}")
        exact = rows.double()
        return ProjectedCurvature.of_moment(exact.mT @ exact / len(rows), len(rows), damping)

    @staticmethod
    def of_moment(second: Tensor, count: int, damping: float) -> ProjectedCurvature:
        """Damp and factor GᵀG/n [k, k] of `count` = n rows in float64; raises ValueError as `fit` does."""
        floor = _floor(float(second.trace()) / min(count, len(second)), damping)
        return ProjectedCurvature(torch.linalg.cholesky(second + floor * torch.eye(len(second)).to(second)))

    def solve(self, vectors: Tensor) -> Tensor:
        """Return C⁻¹ v for every v of `vectors` [..., k], in their own precision."""
        size = len(self.factor)
        if vectors.shape[-1] != size:
            raise ValueError(f"this curvature is of {size} numbers, the vectors of {vectors.shape[-1]}")
        columns = vectors.to(self.factor).reshape(-1, size).mT
        return torch.cholesky_solve(columns, self.factor).mT.reshape(vectors.shape).to(vectors)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `from_state` needs: half of the factor, k(k + 1)/2 numbers."""
        low = torch.tril_indices(len(self.factor), len(self.factor), device=self.factor.device)
        return {"size": torch.tensor(len(self.factor)), "triangle": self.factor[low[0], low[1]]}

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> ProjectedCurvature:
        """Rebuild the curvature, bit for bit."""
        size, triangle = int(state["size"]), state["triangle"]
        factor = triangle.new_zeros(size, size)
        low = torch.tril_indices(size, size, device=triangle.device)
        factor[low[0], low[1]] = triangle
        return ProjectedCurvature(factor)


@dataclass(frozen=True)
class DiagonalFisher:
    """The diagonal of the (empirical) Fisher information of some weights, damped by `floor` > 0."""

    diagonal: Params
    floor: float

    @staticmethod
    def of(diagonal: Params, damping: float) -> DiagonalFisher:
        """Damp a known diagonal relative to its mean over all weights together; raises ValueError for damping ≤ 0."""
        total = sum(float(x.sum(dtype=torch.float64)) for x in diagonal.values())
        return DiagonalFisher(diagonal, _floor(total / sum(x.numel() for x in diagonal.values()), damping))

    def direction(self, gradient: Params) -> dict[str, Tensor]:
        """Return (F + floor)⁻¹ g; raises ValueError for a gradient of other weights."""
        if {n: g.shape for n, g in gradient.items()} != {n: f.shape for n, f in self.diagonal.items()}:
            raise ValueError("the gradient and the Fisher diagonal are of different weights")
        return {name: g / (self.diagonal[name] + self.floor) for name, g in gradient.items()}


def fisher_diagonal(
    model: Model, segments: Segments, probe: Probe, weights: str, progress: Progress = silent
) -> dict[str, Tensor]:
    """Return E_{i,t,ε} (∇_θ M(x_i; θ₀, t, ε))²: name → a tensor of the weight's shape.

    Every sample is squared by itself, so a layer used twice in a forward pass is refused (its gradient is the sum over
    both uses, whose square is not the sum of their squares). Memory: samples in a batch × numbers of one weight. Raises
    as `gradients.gradients` does.
    """
    require_ready(model, segments)
    layers = selected(model.module, weights)
    sums = {
        n: torch.zeros(size, dtype=segments.latents.dtype, device=model.device) for n, size in sizes(layers).items()
    }
    with frozen(model.module):
        for block in blocks(len(segments), probe):
            part = segments[block.rows].to(model.device)
            samples = len(part) * block.probe.grid.draws
            forward = partial(measured, model, {}, part, block.probe)
            catch(forward, layers, Shape(samples, samples), _squarer(sums))
            progress(block.done)
    weight = 1 / (len(segments) * probe.grid.draws)
    return {name: (sums[name] * weight).view(p.shape) for name, p in model.params(weights).items()}


def _squarer(sums: Mapping[str, Tensor]) -> Sink:
    met: set[str] = set()

    def add(name: str, gradient: Tensor) -> None:
        if name in met:
            raise UnsupportedWeight(f"{name} is used twice in a forward pass: its square cannot be summed by use")
        met.add(name)
        sums[name].add_(gradient.square().sum(0))

    return add


def _floor(mean: float, damping: float) -> float:
    """Return damping × mean eigenvalue; raises ValueError where that is not a positive number."""
    if not damping > 0:
        raise ValueError(f"undamped division is refused: damping must be above 0, got {damping}")
    floor = damping * mean
    if not 0 < floor < float("inf"):
        raise ValueError(f"nothing to fit a curvature on: the mean eigenvalue is {mean}")
    return floor
