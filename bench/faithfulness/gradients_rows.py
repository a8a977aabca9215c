"""Whole gradients of every segment in every band of noise, unprojected, and their hashes.

    g_{a,i} = 1/|D_a| Σ_{d ∈ D_a} ∇_θ M(x_i; θ₀, t_d, ε_d),     g_i = 1/B Σ_a g_{a,i}

D_a are the draws of band a, equally many in each, so the mean over bands is the mean over draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.hooks import Shape, Sink, catch, frozen, selected
from worker.attribution.measure import Measure, Probe, blocks, exact_float32, measured, require_ready
from worker.attribution.projection import Identity
from worker.manifest import IndexConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.faithfulness.gradients_draws import Draws
    from worker.attribution.projection import Projection, Slice
    from worker.attribution.types import Model, Segments

Spans = dict[str, tuple[int, int]]
_HASHED_TOGETHER = 512


@dataclass(frozen=True)
class Rows:
    """Which weights rows are of (a regular expression), and how many samples share a pass."""

    weights: str = IndexConfig().weights
    batch: int = 512


def spans_of(model: Model, weights: str) -> Spans:
    """Return the place of every selected weight in a row: name → first and last number."""
    return dict(Identity.of(model.params(weights)).spans)


def band_rows(model: Model, segments: Segments, measure: Measure, bands: Sequence[Draws], rows: Rows) -> Tensor:
    """Return the gradient of every segment in every band, [B, s, p] float32 on the model's device.

    Each is written to its place as the backward pass goes by, so that nothing of a row's length is copied.
    """
    require_ready(model, segments)
    layers, spans = selected(model.module, rows.weights), spans_of(model, rows.weights)
    width = max(end for _, end in spans.values())
    made = torch.zeros(len(bands), len(segments), width, dtype=segments.latents.dtype, device=model.device)
    with frozen(model.module), exact_float32():
        for band, draws in zip(made, bands, strict=True):
            for block in blocks(len(segments), Probe(measure, draws, rows.batch)):
                part = segments[block.rows].to(model.device)
                shape = Shape(len(part), len(part) * block.probe.grid.draws)
                sink = _writer(band[block.rows], spans, 1 / draws.draws)
                catch(partial(measured, model, {}, part, block.probe), layers, shape, sink)
    return made


def _writer(rows: Tensor, spans: Spans, factor: float) -> Sink:
    def add(name: str, gradient: Tensor) -> None:
        start, end = spans[name]
        rows[:, start:end].add_(gradient, alpha=factor)

    return add


def slices_of(projection: Projection, spans: Spans, device: torch.device) -> dict[str, Slice]:
    """Return the projection's slice of every weight, ready on `device`."""
    return {name: projection.slice(name, end - start, device) for name, (start, end) in spans.items()}


def hashed(rows: Tensor, slices: Mapping[str, Slice], spans: Spans) -> Tensor:
    """Return the projections of whole rows: [..., p] → [..., k]."""
    flat = rows.flatten(0, -2)
    parts = [
        sum(slices[name].project(part[:, start:end]) for name, (start, end) in spans.items())
        for part in flat.split(_HASHED_TOGETHER)
    ]
    return torch.cat(parts).view(*rows.shape[:-1], -1)
