"""Gradients of every segment by itself, from one ordinary backward pass a batch.

    g_i = P · 1/D Σ_d ∇_θ M(x_i; θ₀, t_d, ε_d)

Samples of a batch do not meet inside the network, so the gradient of the summed measure with respect to a layer's
output holds each sample's own. The draws of a segment are summed in the product that makes its weight gradient, and the
slice of the projection is applied there and then, one weight at a time: the largest thing alive is
[segments in the batch, numbers of one weight], whatever the number of draws.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.hooks import Shape, Sink, catch, frozen, selected, sizes
from worker.attribution.measure import Probe, blocks, measured, require_ready
from worker.attribution.types import Model, Params, Progress, Segments, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.attribution.projection import Projection, Slice


@dataclass(frozen=True)
class Request:
    """What rows are made of: the measure and its draws, the weights (a regular expression), the projection."""

    probe: Probe
    weights: str
    projection: Projection


def gradients(model: Model, segments: Segments, request: Request, progress: Progress = silent) -> Tensor:
    """Return the projected gradient of every segment, averaged over the draws: P ∇_θ M(x_i; θ₀), [s, k].

    The model is left as it was: hooks are removed, `requires_grad` is restored, `.grad` is never touched, also when
    `progress` raises. Rows are float32 (float64 for float64 latents) on the model's device. Raises
    UnsupportedWeight as `hooks.selected` and `hooks.catch` do, and ValueError as `require_ready` does.
    """
    require_ready(model, segments)
    layers = selected(model.module, request.weights)
    slices = {n: request.projection.slice(n, size, model.device) for n, size in sizes(layers).items()}
    rows = torch.zeros(len(segments), request.projection.dim, dtype=segments.latents.dtype, device=model.device)
    with frozen(model.module):
        for block in blocks(len(segments), request.probe):
            part = segments[block.rows].to(model.device)
            add = _adder(rows[block.rows], slices, 1 / request.probe.grid.draws)
            shape = Shape(len(part), len(part) * block.probe.grid.draws)
            catch(partial(measured, model, {}, part, block.probe), layers, shape, add)
            progress(block.done)
    return rows


def share(progress: Progress, number: int, of: int) -> Progress:
    """Return the progress of step `number` among `of` equal ones."""
    return lambda done: progress((number + done) / of)


def _adder(rows: Tensor, slices: Mapping[str, Slice], factor: float) -> Sink:
    def add(name: str, gradient: Tensor) -> None:
        rows.add_(slices[name].project(gradient), alpha=factor)

    return add


def grouped(model: Model, segments: Segments, request: Request, groups: int, progress: Progress = silent) -> Tensor:
    """Return `gradients` over `groups` disjoint sets of the draws, [groups, s, k]: their mean is the whole.

    How well the groups agree says how far the draws, and nothing else, decide the answer. Raises ValueError where the
    draws do not make equal groups.
    """
    found = []
    for number, part in enumerate(request.probe.grid.parts(groups)):
        one = replace(request, probe=replace(request.probe, grid=part))
        found.append(gradients(model, segments, one, share(progress, number, groups)))
    return torch.stack(found)


def mean_gradient(
    model: Model, segments: Segments, probe: Probe, weights: str, progress: Progress = silent
) -> dict[str, Tensor]:
    """Return Σ_i w_i ∇_θ M(x_i; θ₀) in the space of the weights, w_i the share of segment i in the unmasked frames.

    Plain autograd with the weights as an argument, so any kind of weight serves. Raises ValueError for a pattern
    without a match, for segments without music, and as `require_ready` does.
    """
    require_ready(model, segments)
    params = {name: p.detach().requires_grad_() for name, p in matching(model, weights).items()}
    share = music_share(segments).to(segments.latents) / probe.grid.draws
    total = {name: torch.zeros_like(p, requires_grad=False) for name, p in params.items()}
    with torch.enable_grad():
        for block in blocks(len(segments), probe):
            found = measured(model, params, segments[block.rows].to(model.device), block.probe)
            value = (found.sum(1) * share[block.rows].to(model.device)).sum()
            grads = torch.autograd.grad(value, list(params.values()), allow_unused=True, materialize_grads=True)
            for name, part in zip(params, grads, strict=True):
                total[name] += part
            progress(block.done)
    return total


def music_share(segments: Segments) -> Tensor:
    """Return each segment's share of the unmasked frames: [s], sum 1. Raises ValueError where there are none."""
    music = segments.music
    if not bool(music.any()):
        raise ValueError("no segment holds music")
    return music / music.sum()


def matching(model: Model, pattern: str) -> Params:
    """Return the model's weights that match `pattern`; raises ValueError where none does."""
    params = model.params(pattern)
    if not params:
        raise ValueError(f"no weight matches {pattern!r}")
    return params


def exactly(names: Iterable[str]) -> str:
    """Return the pattern that selects these weights and no others."""
    return f"^({'|'.join(re.escape(name) for name in names)})$"
