"""Finite-step unlearning: the model forgets the track once, then one sees which songs get worse.

    θ′ = θ₀ + η d,    d = F⁻¹ ∇M(ẑ; θ₀),    η = r ‖θ₀‖ / ‖d‖           (AbU, arXiv 2406.09408; music: 2506.18312)
    Δ_i = M(x_i; θ′) − M(x_i; θ₀)            on the same draws
    Δ_i / η → ⟨∇M(x_i; θ₀), d⟩               as r → 0: the first order that an index keeps

The step climbs the track's measure. Norms run over the selected weights together. θ₀ is read, never written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.gradients import exactly, mean_gradient
from worker.attribution.measure import Probe, values
from worker.attribution.types import Model, Params, Progress, Segments, silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.attribution.curvature import DiagonalFisher


@dataclass(frozen=True)
class Step:
    """How far to go: `relative` = ‖θ′ − θ₀‖ / ‖θ₀‖; the longer the step, the less it follows its first order."""

    relative: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.relative < 1:
            raise ValueError(f"a relative step lies in (0, 1): got {self.relative}")


def forget_direction(
    model: Model, track: Segments, probe: Probe, fisher: DiagonalFisher, progress: Progress = silent
) -> dict[str, Tensor]:
    """Return d = F⁻¹ ∇M(ẑ; θ₀) over the weights of `fisher`, segments of the track weighted by their music."""
    return fisher.direction(mean_gradient(model, track, probe, exactly(fisher.diagonal), progress))


def step_length(params: Params, direction: Params, step: Step) -> float:
    """Return η = r ‖θ‖ / ‖d‖; raises ValueError for a direction of other weights, zero or not finite."""
    if {n: p.shape for n, p in params.items()} != {n: d.shape for n, d in direction.items()}:
        raise ValueError("the weights and the direction do not fit each other")
    length = _norm(direction.values())
    if not 0 < length < float("inf"):
        raise ValueError(f"there is no direction to step in: its length is {length}")
    return step.relative * _norm(params.values()) / length


def unlearn(params: Params, direction: Params, step: Step) -> dict[str, Tensor]:
    """Return θ′ = θ₀ + η d as new tensors; raises ValueError as `step_length` does."""
    return stepped(params, direction, step_length(params, direction, step))


def stepped(params: Params, direction: Params, eta: float) -> dict[str, Tensor]:
    """Return θ₀ + η d as new tensors, for the η of `step_length`."""
    return {name: weight.detach() + eta * direction[name] for name, weight in params.items()}


def mirrored(model: Model, segments: Segments, probe: Probe, after: Params, progress: Progress = silent) -> Tensor:
    """Return Δ_i = mean over draws of M(x_i; θ′) − M(x_i; θ₀), both on the same draws and batches: [s].

    `after` holds θ′ by name. Where M(x_i; θ₀) is known already, `change` saves half of the passes.
    """
    before = values(model, {}, segments, probe, lambda done: progress(done / 2))
    return change(before, values(model, after, segments, probe, lambda done: progress((1 + done) / 2)))


def change(before: Tensor, after: Tensor) -> Tensor:
    """Return the mean over draws of after − before, [s, draws] each: paired by draw, summed in float64."""
    if before.shape != after.shape:
        raise ValueError(f"measured on different draws: {list(before.shape)} and {list(after.shape)}")
    return (after.double() - before.double()).mean(1).to(after)


def _norm(tensors: Iterable[Tensor]) -> float:
    return float(torch.stack([torch.linalg.vector_norm(x, dtype=torch.float64) for x in tensors]).norm())
