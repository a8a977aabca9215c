"""Gates and rotations, forwards and backwards: the kernels against the operations of torch that serve elsewhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.kernels import random
from worker.diffusion import elementwise

TYPES = {"float32": (torch.float32, 1e-6), "bfloat16": (torch.bfloat16, 2**-7)}
"""What numbers are kept in, and how far a rounding may lie from another."""


def both_ways(monkeypatch: pytest.MonkeyPatch, make: Callable[[Tensor], Tensor], x: Tensor) -> list[list[Tensor]]:
    """What is made of `x` and its gradient: by tensor operations, then by the kernels."""
    found = []
    for kernels in (False, True):
        monkeypatch.setattr(elementwise, "serves", lambda _, kernels=kernels: kernels)
        leaf = x.clone().requires_grad_()
        made = make(leaf)
        made.backward(random(*made.shape, seed=1).to(made))
        assert leaf.grad is not None
        found.append([made.detach(), leaf.grad])
    return found


@pytest.mark.parametrize(("dtype", "least"), TYPES.values(), ids=TYPES)
def test_gates(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, least: float) -> None:
    x = (3 * random(3, 50, 2 * 37)).to(dtype)
    operations, kernels = both_ways(monkeypatch, elementwise.gated, x)
    for made, expected in zip(kernels, operations, strict=True):
        assert made.dtype == dtype
        torch.testing.assert_close(made, expected, rtol=2 * least, atol=2 * least)


@pytest.mark.parametrize("turned", [8, 16])
@pytest.mark.parametrize(("dtype", "least"), TYPES.values(), ids=TYPES)
def test_rotations(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, least: float, turned: int) -> None:
    angle = (4 * random(20, turned // 2, seed=2)).repeat(1, 2)

    def make(x: Tensor) -> Tensor:
        return elementwise.rotated(x, angle.cos(), angle.sin())

    operations, kernels = both_ways(monkeypatch, make, random(2, 20, 5, 16).to(dtype))
    for made, expected in zip(kernels, operations, strict=True):
        assert made.dtype == dtype
        torch.testing.assert_close(made, expected, rtol=2 * least, atol=2 * least)


def test_turning_back_undoes_a_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "serves", lambda _: True)
    angle, x = random(20, 4, seed=2).repeat(1, 2), random(2, 20, 5, 16)
    there = elementwise.rotated(x, angle.cos(), angle.sin())
    torch.testing.assert_close(elementwise.rotated(there, angle.cos(), -angle.sin()), x)
