"""What is measured of a segment, and under which noise.

    x_t = α x + σ ε,   v = α ε − σ x,   α = cos(πt/2),  σ = sin(πt/2)      (v-prediction, arXiv 2202.00512)
    loss            L(x; θ) = E_{t,ε} mean_{c, f: m_f = 1} (v_θ(x_t, t) − v)²
    squared output  Q(x; θ) = E_{t,ε} mean_{c, f: m_f = 1} v_θ(x_t, t)²     (D-TRAK, arXiv 2311.00500)
    squared noise   E(x; θ) = E_{t,ε} mean_{c, f: m_f = 1} ε_θ(x_t, t)²,  ε_θ = σ x_t + α v_θ     (the same, as noise)

Only L is unlearning; Q and E are empirical surrogates. Masked frames are silenced before noise is added and left out of
the mean, so what lies in the padding never matters. A segment without music has measure 0 and gradient 0.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from math import pi
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from worker.attribution.types import Conditioning, Model, Params, Progress, Segments, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.attribution.noise import Drawn, Grid


class Measure(StrEnum):
    """The function of a segment whose gradient or change is taken."""

    LOSS = "loss"
    SQUARED_OUTPUT = "squared_output"
    SQUARED_NOISE = "squared_noise"


@dataclass(frozen=True)
class Probe:
    """What is measured, over which draws, and how many samples (segment × draw) share a forward pass.

    `batch` changes speed and memory, never a result beyond rounding.
    """

    measure: Measure
    grid: Grid
    batch: int = 16

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"a batch holds at least one sample: got {self.batch}")


@dataclass(frozen=True)
class Samples:
    """Noised segments, segment-major (b = segment × draw): noisy and target [b, c, f], level [b], mask [b, f]."""

    noisy: Tensor
    target: Tensor
    level: Tensor
    mask: Tensor
    cond: Conditioning


def schedule(level: Tensor) -> tuple[Tensor, Tensor]:
    """Return (α, σ) = (cos πt/2, sin πt/2), variance preserving: α² + σ² = 1."""
    return torch.cos(level * pi / 2), torch.sin(level * pi / 2)


def diffuse(segments: Segments, grid: Grid | Drawn) -> Samples:
    """Add every draw of `grid` to every segment: s segments become b = s × draws samples."""
    latents, mask = segments.latents, segments.mask.to(segments.latents)
    level = grid.levels()
    alpha, sigma = (x.to(latents)[:, None, None] for x in schedule(level))
    noise = grid.noise((latents.shape[1], latents.shape[2])).to(latents)
    clean = (latents * mask[:, None])[:, None]
    return Samples(
        noisy=(alpha * clean + sigma * noise).flatten(0, 1),
        target=(alpha * noise - sigma * clean).flatten(0, 1),
        level=level.to(latents).repeat(len(segments)),
        mask=mask.repeat_interleave(grid.draws, 0),
        cond=segments.cond.repeat(grid.draws),
    )


def masked_mean_square(x: Tensor, mask: Tensor) -> Tensor:
    """Return Σ m x² / (c Σ m) of each sample: x [b, c, f], mask [b, f] → [b]; 0 where nothing is unmasked."""
    music = mask.sum(1).clamp(min=1)
    return (x.square() * mask[:, None]).sum((1, 2)) / (x.shape[1] * music)


def measured(model: Model, params: Params, segments: Segments, probe: Probe) -> Tensor:
    """Return M(x_i; θ, t_d, ε_d) of every segment and draw in one forward pass, differentiable: [s, draws]."""
    (found,) = means(*predicted(model, params, segments, probe.grid), (probe.measure,))
    return found.view(len(segments), probe.grid.draws)


def predicted(model: Model, params: Params, segments: Segments, grid: Grid | Drawn) -> tuple[Samples, Tensor]:
    """Return the noised segments and the v-predictions [b, c, f] for them, in the latents' precision."""
    samples = diffuse(segments, grid)
    output = model.output(params, samples.noisy, samples.level, samples.cond)
    return samples, output.to(samples.target.dtype)


def means(samples: Samples, output: Tensor, measures: Sequence[Measure]) -> list[Tensor]:
    """Return every measure of the predictions `output` [b, c, f], differentiable: [b] each."""
    return [masked_mean_square(_squared(measure, samples, output), samples.mask) for measure in measures]


def profiled(samples: Samples, output: Tensor) -> Tensor:
    """Return loss, squared output and squared target of every sample: [3, b]."""
    vectors = (output - samples.target, output, samples.target)
    return torch.stack([masked_mean_square(vector, samples.mask) for vector in vectors])


def _squared(measure: Measure, samples: Samples, output: Tensor) -> Tensor:
    """Return what the measure squares, [b, c, f], for the v-predictions `output` [b, c, f]."""
    if measure is Measure.LOSS:
        return output - samples.target
    if measure is Measure.SQUARED_OUTPUT:
        return output
    alpha, sigma = (x[:, None, None] for x in schedule(samples.level))
    return sigma * samples.noisy + alpha * output


def profile(model: Model, segments: Segments, probe: Probe, progress: Progress = silent) -> Tensor:
    """Return loss, squared output and squared target of every segment and draw, from one pass: [3, s, draws].

    The squared target is what predicting nothing would cost. `probe.measure` is of no account. Raises ValueError as
    `require_ready` does.
    """
    require_ready(model, segments)
    result = torch.empty(3, len(segments), probe.grid.draws, dtype=segments.latents.dtype, device=model.device)
    with torch.no_grad(), exact_float32():
        for block in blocks(len(segments), probe):
            part = segments[block.rows].to(model.device)
            found = profiled(*predicted(model, {}, part, block.probe.grid))
            result[:, block.rows, block.columns] = found.view(3, len(part), block.probe.grid.draws)
            progress(block.done)
    return result


@dataclass(frozen=True)
class Block:
    """A rectangle of segments × draws that fits one forward pass, and the fraction of the work done after it."""

    rows: slice
    columns: slice
    probe: Probe
    done: float


def blocks(segments: int, probe: Probe) -> Iterator[Block]:
    """Cut segments × draws into rectangles of at most `probe.batch` samples, the draws of a segment side by side."""
    draws, batch = probe.grid.draws, probe.batch
    wide, tall = min(draws, batch), max(batch // draws, 1)
    for top in range(0, segments, tall):
        bottom = min(top + tall, segments)
        for left in range(0, draws, wide):
            right = min(left + wide, draws)
            part = replace(probe, grid=probe.grid.subset(range(left, right)))
            done = (top * draws + (bottom - top) * right) / (segments * draws)
            yield Block(slice(top, bottom), slice(left, right), part, done)


def values(model: Model, params: Params, segments: Segments, probe: Probe, progress: Progress = silent) -> Tensor:
    """Return M(x_i; θ, t_d, ε_d) without gradients and without TF32: [s, draws] on the model's device.

    `params` replace weights by name, none means the resident ones. Segments may lie on another device than the model:
    they are moved a block at a time. Raises ValueError as `require_ready` does.
    """
    return values_each(model, params, segments, (probe,), progress)[0]


def values_each(
    model: Model, params: Params, segments: Segments, probes: Sequence[Probe], progress: Progress = silent
) -> Tensor:
    """Return the values of several measures from the same passes: [m, s, draws].

    The probes differ in their measure alone, or ValueError is raised. Otherwise as `values`.
    """
    first, measures = _shared(probes), [probe.measure for probe in probes]
    require_ready(model, segments)
    size = (len(probes), len(segments), first.grid.draws)
    result = torch.empty(size, dtype=segments.latents.dtype, device=model.device)
    with torch.no_grad(), exact_float32():
        for block in blocks(len(segments), first):
            part = segments[block.rows].to(model.device)
            found = torch.stack(means(*predicted(model, params, part, block.probe.grid), measures))
            result[:, block.rows, block.columns] = found.view(len(probes), len(part), block.probe.grid.draws)
            progress(block.done)
    return result


def _shared(probes: Sequence[Probe]) -> Probe:
    if not probes or any((probe.grid, probe.batch) != (probes[0].grid, probes[0].batch) for probe in probes):
        raise ValueError("measures of the same passes share their draws and their batch")
    return probes[0]


def require_ready(model: Model, segments: Segments) -> None:
    """Raise ValueError where a result would be random or meaningless.

    That is: a model in training mode, no segments, latents of less than single precision or not finite.
    """
    if model.module.training:
        raise ValueError("the model is in training mode: dropout would make every answer another one; call eval()")
    if not len(segments):
        raise ValueError("there are no segments to measure")
    if segments.latents.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"latents are float32 (or float64 in an oracle), not {segments.latents.dtype}")
    if not bool(segments.latents.isfinite().all()):
        raise ValueError("latents hold NaN or infinity")


@contextmanager
def exact_float32() -> Iterator[None]:
    """Multiply float32 matrices in float32 (no TF32, no bfloat16 passes) inside the block; settings are restored."""
    matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Let attention on a GPU add in a fixed order inside the block, so that a pass repeats bit for bit.

    An operation that cannot repeat raises RuntimeError there.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    options: Any = torch.utils.deterministic
    filled = options.fill_uninitialized_memory
    try:
        if device.type == "cuda":
            torch.use_deterministic_algorithms(True)  # attention ignores it where it only warns
            options.fill_uninitialized_memory = False
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        options.fill_uninitialized_memory = filled
