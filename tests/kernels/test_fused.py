"""Sketches of gradients: the fused kernels against a gather and a sum."""

from math import sqrt

import pytest
import torch
from torch import Tensor

from tests.kernels import DEVICE, random
from worker.attribution import fused
from worker.attribution.projection import SJLT

WIDTH = 48
SKETCHES = 3
SIZES = {
    "less than a run": 31,
    "one run": WIDTH,
    "a run and a number": WIDTH + 1,
    "a stretch and a bit": 4 * WIDTH + 5,
    "several stretches": 700 * WIDTH - 7,
}
"""Numbers of a gradient."""


def drawn(size: int) -> tuple[Tensor, Tensor]:
    """The signs and rotations of one weight, which lies where the kernels run."""
    part = SJLT(7, SKETCHES * WIDTH, SKETCHES).slice("weight", size, DEVICE)
    return part.signs, part.rotations


def sketched(gradient: Tensor) -> Tensor:
    """The sketches [s, k] of gradients [s, p] by tensor operations on a processor, not scaled."""
    part = SJLT(7, SKETCHES * WIDTH, SKETCHES).slice("weight", gradient.shape[1], torch.device("cpu"))
    return part.project(gradient.cpu()) * sqrt(SKETCHES)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_sketches_are_added_to_what_is_there(size: int) -> None:
    gradient = random(4, size)
    into = torch.ones(2, 2, SKETCHES * WIDTH, device=DEVICE)
    fused.add(gradient, *drawn(size), into, 0.5)
    expected = 1 + 0.5 * sketched(gradient).view(2, 2, -1)
    torch.testing.assert_close(into.cpu(), expected, rtol=1e-5, atol=1e-4)


def test_they_are_added_between_other_rows() -> None:
    """Measures lie side by side: the rows of one are every second of what holds both."""
    gradient = random(6, 500)
    both = torch.zeros(3, 2, 2, SKETCHES * WIDTH, device=DEVICE)
    fused.add(gradient, *drawn(500), both[:, :, 1], 1.0)
    assert not both[:, :, 0].any()
    torch.testing.assert_close(both[:, :, 1].cpu(), sketched(gradient).view(3, 2, -1), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_gradient_has_the_same_bits_alone_and_in_company(size: int) -> None:
    gradient, signs_and_rotations = random(3, size), drawn(size)
    together = torch.zeros(3, 1, SKETCHES * WIDTH, device=DEVICE)
    fused.add(gradient, *signs_and_rotations, together, 1.0)
    for row, expected in zip(gradient, together, strict=True):
        alone = torch.zeros(1, 1, SKETCHES * WIDTH, device=DEVICE)
        fused.add(row[None], *signs_and_rotations, alone, 1.0)
        assert torch.equal(alone[0], expected)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_pulling_back_is_the_transpose(size: int) -> None:
    gradient, vector = random(1, size), random(SKETCHES * WIDTH)
    signs, rotations = drawn(size)
    pulled = fused.pull_back(vector, signs, rotations)
    assert pulled.shape == (size,)
    there = sketched(gradient)[0].double() @ vector.cpu().double()
    back = gradient[0].cpu().double() @ pulled.cpu().double()
    torch.testing.assert_close(back, there, rtol=1e-5, atol=1e-3)
