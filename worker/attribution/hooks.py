"""Per-sample gradients of linear layers, caught while an ordinary backward pass goes by.

For y = W x + b with tokens τ, δ = ∂M/∂y and samples b of a group (Goodfellow, arXiv 1510.01799):

    ∇_W M = Σ_b Σ_τ δ_{bτ} x_{bτ}ᵀ,     ∇_b M = Σ_b Σ_τ δ_{bτ}

Samples and tokens of a group are summed in one matrix product. A convolution is the same on its unfolded input. On a
GPU those products, and what is done with them, run beside the backward pass and in their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch reader knows
from torch import Tensor, nn

_HELD_BYTES = 1 << 30
Sink = Callable[[str, Tensor], None]


class UnsupportedWeight(ValueError):
    """A selected weight whose per-sample gradient no hook can give."""


@dataclass(frozen=True)
class Layer:
    """A linear layer or convolution and the names under which its weights were selected (None: not selected)."""

    module: nn.Linear | nn.Conv1d
    weight: str | None
    bias: str | None


def selected(module: nn.Module, pattern: str) -> list[Layer]:
    """Return the layers that hold the weights whose name matches `pattern`, every holder of a shared weight included.

    Raises ValueError where nothing matches and UnsupportedWeight for a weight outside of nn.Linear and ungrouped,
    zero-padded nn.Conv1d.
    """
    names = {id(p): name for name, p in module.named_parameters() if re.search(pattern, name)}
    if not names:
        raise ValueError(f"no weight matches {pattern!r}")
    layers = []
    for part in module.modules():
        held = {key: names[id(p)] for key, p in part.named_parameters(recurse=False) if id(p) in names}
        if held and _served(part) and held.keys() <= {"weight", "bias"}:
            layers.append(Layer(part, held.get("weight"), held.get("bias")))
        elif held:
            raise UnsupportedWeight(f"neither of a Linear nor of a plain Conv1d: {sorted(held.values())}")
    return layers


def sizes(layers: Sequence[Layer]) -> dict[str, int]:
    """Return how many numbers each selected weight holds: name → p."""
    found = [(name, getattr(x.module, key)) for x in layers for key in ("weight", "bias") if (name := getattr(x, key))]
    return {name: parameter.numel() for name, parameter in found}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let no weight ask for a gradient inside the block, so that graphs run through activations; restored after it."""
    asked = [(p, p.requires_grad) for p in module.parameters()]
    try:
        for parameter, _ in asked:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)


@dataclass(frozen=True)
class Shape:
    """How a batch is made: `groups` equal runs of samples, `samples` in all; gradients are summed within a run."""

    groups: int
    samples: int


def catch(forward: Callable[[], Tensor], layers: Sequence[Layer], shape: Shape, sink: Sink) -> None:
    """Run `forward` and one backward pass from the sum of its result; give `sink` the layers' gradients as they pass.

    `sink(name, gradient [groups, p])` is called once for every use of a weight, so a layer used twice adds up. Raises
    UnsupportedWeight for a layer that the forward pass called without the batch in front, or never (then its weight is
    used behind its back).
    """
    catch_each(lambda: (forward(),), layers, shape, (sink,))


def catch_each(
    forward: Callable[[], Sequence[Tensor]], layers: Sequence[Layer], shape: Shape, sinks: Sequence[Sink]
) -> None:
    """Run `forward` once and one backward pass from the sum of each of its results, every result with a sink.

    What results have in common is computed once. Otherwise as `catch`.
    """
    called: set[int] = set()
    turn = 0

    def sink(name: str, gradient: Tensor) -> None:
        sinks[turn](name, gradient)

    def tap(layer: Layer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            called.add(id(layer))
            return _tapped(output, partial(_deliver, layer, _batched(layer, inputs, shape), shape.groups, sink))

        return hook

    handles = [layer.module.register_forward_hook(tap(layer)) for layer in layers]
    try:
        results = forward()
    finally:
        for handle in handles:
            handle.remove()
    if missed := [layer.weight or layer.bias for layer in layers if id(layer) not in called]:
        raise UnsupportedWeight(f"the forward pass never called the layers of {missed}")
    for turn, result in enumerate(results):
        torch.autograd.backward(result.sum(), retain_graph=turn < len(results) - 1)
        _wait(result.device)


def _tapped(output: Tensor, deliver: Callable[[Tensor], None]) -> Tensor:
    if not output.requires_grad:  # a copy of a leaf, not the leaf itself: what follows may write into it in place
        output = output.detach().requires_grad_().clone()
    output.register_hook(deliver)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return output


def _batched(layer: Layer, inputs: tuple[Tensor, ...], shape: Shape) -> Tensor:
    if not inputs or len(inputs[0]) != shape.samples:
        found = list(inputs[0].shape) if inputs else "keywords"
        raise UnsupportedWeight(f"{layer.weight or layer.bias} meets {found}, not a batch of {shape.samples}")
    return inputs[0].detach()


def _deliver(layer: Layer, x: Tensor, groups: int, sink: Sink, delta: Tensor) -> None:
    """Sum δ xᵀ and δ over the tokens of each group and hand them to `sink`, summed in float32 at least."""
    with _beside(x, delta):
        x, delta = (z.reshape(groups, -1, z.shape[-1]) for z in _tokens(layer.module, x, delta))
        if layer.weight:
            sink(layer.weight, _outer(delta, x).flatten(1))
        if layer.bias:
            sink(layer.bias, delta.sum(1, dtype=torch.promote_types(delta.dtype, torch.float32)))


@dataclass
class _Aside:
    """A stream beside another, and what it may still read: the backward pass adds to gradients that nobody holds."""

    stream: Any
    held: list[Tensor] = field(default_factory=list)

    def wait(self, now: Any) -> None:
        """Let the stream `now` wait for all that runs here."""
        now.wait_stream(self.stream)
        self.held.clear()


@contextmanager
def _beside(x: Tensor, delta: Tensor) -> Iterator[None]:
    """Let a GPU work on what comes in the block beside the backward pass, once `x` and `delta` are there."""
    if not delta.is_cuda:
        yield
        return
    now = torch.cuda.current_stream(delta.device)
    aside = _aside(delta.device, now.cuda_stream)
    aside.stream.wait_stream(now)
    with torch.cuda.stream(aside.stream):
        yield
    aside.held += (x, delta)
    if sum(each.nbytes for each in aside.held) > _HELD_BYTES:
        aside.wait(now)


def _wait(device: torch.device) -> None:
    """Let what follows wait for all that runs beside the backward pass."""
    if device.type == "cuda":
        now = torch.cuda.current_stream(device)
        _aside(device, now.cuda_stream).wait(now)


@cache
def _aside(device: torch.device, _beside: int) -> _Aside:
    return _Aside(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def _outer(delta: Tensor, x: Tensor) -> Tensor:
    """Return Σ_τ δ_τ x_τᵀ [g, out, in] of [g, τ, out] and [g, τ, in], in float32 at least."""
    if delta.is_cuda and delta.dtype == x.dtype == torch.bfloat16:
        return torch.bmm(delta.mT, x, out_dtype=torch.float32)
    exact = torch.promote_types(delta.dtype, torch.float32)
    return torch.bmm(delta.to(exact).mT, x.to(exact))


def _tokens(module: nn.Linear | nn.Conv1d, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's inputs [b, …, in] and output gradients [b, …, out] as the factors of its weight gradient."""
    if isinstance(module, nn.Linear):
        return x, delta
    fixed = {"kernel_size": 1, "dilation": 1, "padding": 0, "stride": 1}
    window = {name: (flat, getattr(module, name)[0]) for name, flat in fixed.items()}
    return F.unfold(x[:, :, None], **window).mT, delta.mT


def _served(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv1d]:
    if isinstance(module, nn.Conv1d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)
