"""Eigenvalue-corrected Kronecker-factored curvature, layer by layer (George et al., arXiv 1806.03884; 2308.03296).

    A = E x xᵀ = V Λ_A Vᵀ,   S = E Σ_τ δ δᵀ = U Λ_S Uᵀ         x a layer's input, δ = ∂M/∂(its output), tokens τ
    Λ = E_{i,d} (Uᵀ ∇_W M(x_i; t_d, ε_d) V)²                    corrected eigenvalues [out, in]
    F⁻¹ g = U [(Uᵀ g V) / (Λ + λ mean Λ)] Vᵀ

The expectations are over training segments and draws, each a sample of its own, of the training loss's own gradients:
the empirical Fisher, as in AbU's diagonal one, so that AbU and AbU+ differ in the shape of the curvature alone. λ is
relative to the mean of Λ over all layers together, or over each layer where `per_layer` is asked for.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from worker.attribution.hooks import Layer, Shape, Sink, UnsupportedWeight, catch, frozen, selected
from worker.attribution.measure import Probe, blocks, exact_float32, measured, require_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.faithfulness.gradients_rows import Spans
    from worker.attribution.types import Model, Params, Segments


@dataclass(frozen=True)
class Basis:
    """One weight's eigenbases, outputs [out, out] and inputs [in, in], and corrected eigenvalues [out, in]."""

    outputs: Tensor
    inputs: Tensor
    values: Tensor

    def rotated(self, gradient: Tensor) -> Tensor:
        """Return Uᵀ g V for gradients [..., out, in]."""
        return self.outputs.mT @ gradient @ self.inputs

    def solved(self, gradient: Tensor, floor: float) -> Tensor:
        """Return U [(Uᵀ g V) / (Λ + floor)] Vᵀ for gradients [..., out, in]."""
        return self.outputs @ (self.rotated(gradient) / (self.values + floor)) @ self.inputs.mT


@dataclass(frozen=True)
class EKFAC:
    """The damped curvature of some weights; `floors` holds λ mean Λ by weight."""

    bases: Mapping[str, Basis]
    floors: Mapping[str, float]

    @classmethod
    def of(cls, bases: Mapping[str, Basis], damping: float, per_layer: bool = False) -> EKFAC:
        """Damp `bases` relative to their mean eigenvalue; raises ValueError for damping ≤ 0 or all-zero eigenvalues."""
        total = sum(float(b.values.sum(dtype=torch.float64)) for b in bases.values())
        mean = total / sum(b.values.numel() for b in bases.values())
        if not damping > 0 or not 0 < mean < float("inf"):
            raise ValueError(f"undamped division is refused: damping {damping}, mean eigenvalue {mean}")
        floors = {n: damping * (float(b.values.mean()) if per_layer else mean) for n, b in bases.items()}
        return cls(bases, floors)

    def direction(self, gradient: Params) -> dict[str, Tensor]:
        """Return F⁻¹ g; raises KeyError for a gradient of other weights."""
        return {name: self.bases[name].solved(g, self.floors[name]) for name, g in gradient.items()}

    def solved_rows(self, rows: Tensor, spans: Spans) -> Tensor:
        """Return F⁻¹ g for gradients as rows [s, p]."""
        found = torch.empty_like(rows)
        for name, (start, end) in spans.items():
            shape = self.bases[name].values.shape
            part = rows[:, start:end].reshape(-1, *shape)
            found[:, start:end] = self.bases[name].solved(part, self.floors[name]).flatten(1)
        return found


def fit(model: Model, segments: Segments, probe: Probe, weights: str) -> dict[str, Basis]:
    """Return the eigenbases and corrected eigenvalues of the selected weights of nn.Linear layers.

    Two passes over segments × draws: one for the factors, one for the eigenvalues. Raises UnsupportedWeight for other
    weights, biases included, and as `gradients.gradients` does.
    """
    require_ready(model, segments)
    layers = selected(model.module, weights)
    if wrong := [x.weight or x.bias for x in layers if not isinstance(x.module, nn.Linear) or x.bias or not x.weight]:
        raise UnsupportedWeight(f"Kronecker factors are of weights of linear layers alone: {wrong}")
    with frozen(model.module), exact_float32():
        bases = _bases(model, segments, probe, layers)
        return _corrected(model, segments, probe, (layers, bases))


def _bases(model: Model, segments: Segments, probe: Probe, layers: list[Layer]) -> dict[str, Basis]:
    inputs, outputs = {}, {}

    def take(name: str, x: Tensor, delta: Tensor) -> None:
        x, delta = x.flatten(0, -2), delta.flatten(0, -2)
        inputs[name] = inputs.get(name, 0) + (x.mT @ x).double() / len(x)
        outputs[name] = outputs.get(name, 0) + (delta.mT @ delta).double()

    for block in blocks(len(segments), probe):
        part = segments[block.rows].to(model.device)
        with tapped(layers, take):
            measured(model, {}, part, block.probe).sum().backward()
    return {
        n: Basis(_eigenvectors(outputs[n]), _eigenvectors(inputs[n]), torch.empty(0)) for n in inputs
    }  # the scale of a factor does not change its eigenvectors


def _eigenvectors(factor: Tensor) -> Tensor:
    return torch.linalg.eigh(factor).eigenvectors


def _corrected(
    model: Model, segments: Segments, probe: Probe, found: tuple[list[Layer], dict[str, Basis]]
) -> dict[str, Basis]:
    layers, bases = found
    dtype = segments.latents.dtype
    bases = {n: Basis(b.outputs.to(dtype), b.inputs.to(dtype), b.values) for n, b in bases.items()}
    sums = {n: b.outputs.new_zeros(len(b.outputs), len(b.inputs)) for n, b in bases.items()}
    for block in blocks(len(segments), probe):
        part = segments[block.rows].to(model.device)
        samples = len(part) * block.probe.grid.draws
        forward = partial(measured, model, {}, part, block.probe)
        catch(forward, layers, Shape(samples, samples), _squarer(bases, sums))
    weight = 1 / (len(segments) * probe.grid.draws)
    return {n: replace(b, values=sums[n] * weight) for n, b in bases.items()}


def _squarer(bases: Mapping[str, Basis], sums: Mapping[str, Tensor]) -> Sink:
    def add(name: str, gradient: Tensor) -> None:
        shape = sums[name].shape
        for part in gradient.split(64):
            sums[name].add_(bases[name].rotated(part.view(-1, *shape)).square().sum(0))

    return add


@contextmanager
def tapped(layers: list[Layer], take: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Call `take(name, input, gradient of the output)` for every use of a layer inside the block's backward pass."""

    def hook(layer: Layer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def tap(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not output.requires_grad:
                output = output.detach().requires_grad_().clone()
            x = inputs[0].detach()
            output.register_hook(lambda delta: take(layer.weight or "", x, delta))
            return output

        return tap

    handles = [layer.module.register_forward_hook(hook(layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
