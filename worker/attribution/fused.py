"""Count sketches on a GPU in one kernel: every number of a gradient is read where it is added, and nothing between.

The same sums as `projection` makes of tensor operations, which write and read every number several times over. Each
program adds a stretch of runs in their order, and the stretches are added in an order that never changes: no atomic
additions, so the same bits on every run. Served where Triton is installed, which comes with CUDA builds of torch.
"""

from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a build of torch for processors alone
    triton = None

_LEAST_STRETCH, _MOST_STRETCH, _UNROLLED = 4, 128, 4
_BLOCK, _SUMMED, _DEEP = 1024, 128, 16


def serves(gradient: Tensor) -> bool:
    """Say whether `add` and `pull_back` can take tensors such as `gradient`."""
    return triton is not None and gradient.is_cuda and gradient.dtype == torch.float32


def add(gradient: Tensor, signs: Tensor, rotations: Tensor, into: Tensor, factor: float) -> None:
    """Add `factor` times the sketches of gradients [s g, p] to `into` [s, g, sketches × width].

    signs: [sketches, p] int8; rotations: [sketches, ceil(p / width)] int64; as `projection` draws them.
    """
    count, runs = rotations.shape
    width = into.shape[2] // count
    stretch = min(_MOST_STRETCH, max(_LEAST_STRETCH, 1 << (runs // 128).bit_length()))
    stretches = -(-runs // stretch)
    parts = torch.empty(len(gradient), stretches, count, width, dtype=gradient.dtype, device=gradient.device)
    given = (gradient.contiguous(), signs, rotations, parts, gradient.shape[1], runs, width)
    shape = {"STRETCH": stretch, "BLOCK": 1 << (width - 1).bit_length(), "UNROLLED": _UNROLLED}
    with torch.cuda.device_of(gradient):  # type: ignore[no-untyped-call]
        _kernels["runs"][stretches, len(gradient), count](*given, **shape)
        across = (-(-count * width // _SUMMED), len(gradient))
        strides = (into.shape[1], into.stride(0), into.stride(1))
        _kernels["parts"][across](parts, into, factor, stretches, count * width, *strides, BLOCK=_SUMMED, DEEP=_DEEP)


def pull_back(vector: Tensor, signs: Tensor, rotations: Tensor) -> Tensor:
    """Return the transpose of `add` of u [sketches × width], not scaled: [p]."""
    count, runs = rotations.shape
    size, width = signs.shape[1], len(vector) // count
    found = torch.empty(size, dtype=vector.dtype, device=vector.device)
    with torch.cuda.device_of(vector):  # type: ignore[no-untyped-call]
        given = (vector.contiguous(), signs, rotations, found, size, runs, width)
        _kernels["back"][(-(-size // _BLOCK),)](*given, COUNT=count, BLOCK=_BLOCK)
    return found


_kernels: dict[str, Any] = {}
if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _add_runs(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        gradient, signs, rotations, parts, size, runs, width,
        STRETCH: tl.constexpr, BLOCK: tl.constexpr, UNROLLED: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        """Add the runs of one stretch into the buckets of one sketch, for one gradient."""
        stretch, row, sketch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        bucket = tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        gradient += row.to(tl.int64) * size
        signs += sketch.to(tl.int64) * size
        for step in tl.range(0, STRETCH, 1, loop_unroll_factor=UNROLLED):
            run = stretch * STRETCH + step
            rotation = tl.load(rotations + sketch * runs + run, mask=run < runs, other=0).to(tl.int32)
            source = bucket - rotation
            source = tl.where(source < 0, source + width, source)
            place = run * width + source
            held = (bucket < width) & (place < size)
            number = tl.load(gradient + place, mask=held, other=0.0)
            sign = tl.load(signs + place, mask=held, other=0)
            total += number * sign.to(tl.float32)
        into = ((row.to(tl.int64) * tl.num_programs(0) + stretch) * tl.num_programs(2) + sketch) * width
        tl.store(parts + into + bucket, total, mask=bucket < width)

    @triton.jit  # type: ignore[untyped-decorator]
    def _add_parts(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        parts, into, factor, stretches, dim, groups, segment_stride, group_stride,
        BLOCK: tl.constexpr, DEEP: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        """Add the stretches of one gradient, and `factor` times their sum to its row."""
        row = tl.program_id(1).to(tl.int64)
        number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        there = number < dim
        total = tl.zeros([DEEP, BLOCK], dtype=tl.float32)
        for first in range(0, stretches, DEEP):
            stretch = first + tl.arange(0, DEEP)[:, None]
            held = there[None, :] & (stretch < stretches)
            total += tl.load(parts + (row * stretches + stretch) * dim + number[None, :], mask=held, other=0.0)
        place = into + (row // groups) * segment_stride + (row % groups) * group_stride + number
        tl.store(place, tl.load(place, mask=there) + factor * tl.sum(total, 0), mask=there)

    @triton.jit  # type: ignore[untyped-decorator]
    def _pull_back(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        vector, signs, rotations, found, size, runs, width,
        COUNT: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        """Gather what every sketch says of one block of numbers."""
        place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        there = place < size
        total = tl.zeros([BLOCK], dtype=tl.float32)
        for sketch in range(COUNT):
            rotation = tl.load(rotations + sketch * runs + place // width, mask=there, other=0)
            bucket = (place + rotation) % width
            sign = tl.load(signs + sketch * size + place, mask=there, other=0).to(tl.float32)
            total += sign * tl.load(vector + sketch * width + bucket, mask=there, other=0.0)
        tl.store(found + place, total, mask=there)

    _kernels = {"runs": _add_runs, "parts": _add_parts, "back": _pull_back}
