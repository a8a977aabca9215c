"""Gradients of every segment by itself, from one ordinary backward pass a batch.

    g_i = P · 1/D Σ_d ∇_θ M(x_i; θ₀, t_d, ε_d)

Samples of a batch do not meet inside the network, so the gradient of the summed measure with respect to a layer's
output holds each sample's own. The draws of a segment are summed in the product that makes its weight gradient, and the
slice of the projection is applied there and then, one weight at a time: the largest thing alive is
[segments × groups of draws in the batch, numbers of one weight], whatever the number of draws. Several measures share
the forward pass; each has a backward pass of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.hooks import Layer, Shape, Sink, catch_each, frozen, selected, sizes
from worker.attribution.measure import (
    Measure,
    Probe,
    blocks,
    means,
    measured,
    predicted,
    profiled,
    repeatable,
    require_ready,
)
from worker.attribution.noise import Drawn, drawn
from worker.attribution.projection import add_projected, slices
from worker.attribution.types import Model, Params, Progress, Segments, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from worker.attribution.projection import Projection, Slice


@dataclass(frozen=True)
class Request:
    """What rows are made of: the measure and its draws, the weights (a regular expression), the projection."""

    probe: Probe
    weights: str
    projection: Projection


@dataclass(frozen=True)
class Rows:
    """What one pass over the draws gives, on the model's device; float64 for float64 latents, else float32.

    rows: projected gradients by group of draws and by measure [groups, s, m, k]; profile: `measure.profile` of the same
    draws, in the order of the grid [2, s, draws].
    """

    rows: Tensor
    profile: Tensor


def gradients(model: Model, segments: Segments, request: Request, progress: Progress = silent) -> Tensor:
    """Return the projected gradient of every segment, averaged over the draws: P ∇_θ M(x_i; θ₀), [s, k].

    As `gradients_each`, for one measure and all draws together.
    """
    return gradients_each(model, segments, (request,), 1, progress).rows[0, :, 0]


def grouped(model: Model, segments: Segments, request: Request, groups: int, progress: Progress = silent) -> Tensor:
    """Return `gradients` over `groups` disjoint sets of the draws, [groups, s, k]: their mean is the whole.

    How well the groups agree says how far the draws, and nothing else, decide the answer. Raises ValueError where the
    draws do not make equal groups.
    """
    return gradients_each(model, segments, (request,), groups, progress).rows[:, :, 0]


def gradients_each(
    model: Model, segments: Segments, requests: Sequence[Request], groups: int = 1, progress: Progress = silent
) -> Rows:
    """Return the rows of several measures and of `groups` disjoint sets of draws from one forward pass a sample.

    The requests differ in their measure alone. The model is left as it was: hooks are removed, `requires_grad` is
    restored, no weight's `.grad` is touched, also when `progress` raises. Raises UnsupportedWeight as `hooks.selected`
    and `hooks.catch` do; ValueError for requests that differ otherwise, for draws that do not make equal groups, and as
    `require_ready` does.
    """
    require_ready(model, segments)
    work = Work.of(model, segments, requests, groups)
    work.run(progress)
    return work.found


@dataclass(frozen=True)
class _Block:
    """Segments × draws of one forward pass, and the groups that the draws are of: whole ones, or a part of one."""

    rows: slice
    columns: slice
    groups: slice
    done: float


def _blocks(segments: int, draws: int, groups: int, batch: int) -> Iterator[_Block]:
    """Cut segments × draws, which lie group after group, into blocks of at most `batch` samples."""
    size, tall = draws // groups, max(batch // draws, 1)
    whole, part = min(max(batch // size, 1), groups), min(batch, size)
    for top in range(0, segments, tall):
        bottom = min(top + tall, segments)
        for first in range(0, groups, whole):
            last = min(first + whole, groups)
            wide = (last - first) * size if batch >= size else part
            for left in range(first * size, last * size, wide):
                right = min(left + wide, last * size)
                done = (top * draws + (bottom - top) * right) / (segments * draws)
                yield _Block(slice(top, bottom), slice(left, right), slice(first, last), done)


@dataclass(frozen=True)
class Work:
    """The passes over all segments and draws: what is asked of the model, and where the answers go.

    rows as in `Rows`; profile in the order of the groups [2, s, draws]; batch: samples in one pass.
    """

    model: Model
    segments: Segments
    measures: tuple[Measure, ...]
    layers: list[Layer]
    slices: Mapping[str, Slice]
    drawn: Drawn
    rows: Tensor
    profile: Tensor
    batch: int

    @staticmethod
    def of(model: Model, segments: Segments, requests: Sequence[Request], groups: int) -> Work:
        """Prepare the passes; raises ValueError for requests that do not share them."""
        first = requests[0]
        if any(replace(x, probe=replace(x.probe, measure=first.probe.measure)) != first for x in requests):
            raise ValueError("rows of the same passes differ in their measure alone")
        layers, grid, latents = selected(model.module, first.weights), first.probe.grid, segments.latents
        empty = torch.empty(0, dtype=latents.dtype, device=model.device)
        return Work(
            model=model,
            segments=segments,
            measures=tuple(request.probe.measure for request in requests),
            layers=layers,
            slices=slices(first.projection, tuple(sizes(layers).items()), model.device),
            drawn=drawn(grid, (latents.shape[1], latents.shape[2]), model.device, groups),
            rows=empty.new_zeros(groups, len(segments), len(requests), first.projection.dim),
            profile=empty.new_empty(2, len(segments), grid.draws),
            batch=first.probe.batch,
        )

    @property
    def found(self) -> Rows:
        """What the passes gave, the profile in the order of the grid."""
        by_group = self.profile.view(*self.profile.shape[:2], len(self.rows), -1)
        return Rows(self.rows, by_group.transpose(2, 3).flatten(2))

    def run(self, progress: Progress = silent) -> None:
        """Run every block and add what it gives to the rows."""
        with frozen(self.model.module), repeatable(self.model.device):
            for block in _blocks(len(self.segments), self.drawn.draws, len(self.rows), self.batch):
                self._run(block)
                progress(block.done)

    def _run(self, block: _Block) -> None:
        """Run one block forwards once and backwards once a measure."""
        part = self.segments[block.rows].to(self.model.device)
        groups = len(part) * (block.groups.stop - block.groups.start)
        shape = Shape(groups, len(part) * (block.columns.stop - block.columns.start))
        sinks = [self._adder(block, at) for at in range(len(self.measures))]
        catch_each(partial(self._forward, part, block), self.layers, shape, sinks)

    def _forward(self, part: Segments, block: _Block) -> list[Tensor]:
        samples, output = predicted(self.model, {}, part, self.drawn[block.columns])
        found = profiled(samples, output.detach())
        self.profile[:, block.rows, block.columns] = found.view(2, len(part), -1)
        return means(samples, output, self.measures)

    def _adder(self, block: _Block, measure: int) -> Sink:
        into, size = self.rows[block.groups, block.rows, measure].transpose(0, 1), self.drawn.draws // len(self.rows)

        def add(name: str, gradient: Tensor) -> None:
            add_projected(self.slices[name], gradient, into, 1 / size)

        return add


def share(progress: Progress, number: int, of: int) -> Progress:
    """Return the progress of step `number` among `of` equal ones."""
    return lambda done: progress((number + done) / of)


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
