"""Count sketches on a GPU in one kernel: every number of a gradient is read where it is added, and nothing between.

The same sums as `projection` makes of tensor operations, which write and read every number several times over. Each
program adds a stretch of runs in their order for all sketches, and all stretches are added in theirs: no atomic
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

_LEAST_STRETCH, _MOST_STRETCH = 8, 128
_BLOCK = 1024


def serves(gradient: Tensor) -> bool:
    """Say whether `add` and `pull_back` can take tensors such as `gradient`."""
    return triton is not None and gradient.is_cuda and gradient.dtype == torch.float32


def add(gradient: Tensor, signs: Tensor, rotations: Tensor, into: Tensor, factor: float) -> None:
    """Add `factor` times the sketches of gradients [s g, p] to `into` [s, g, sketches × width].

    signs: [sketches, p] int8; rotations: [sketches, ceil(p / width)] int64; as `projection` draws them.
    """
    count, runs = rotations.shape
    width = into.shape[2] // count
    stretch = min(_MOST_STRETCH, max(_LEAST_STRETCH, 1 << (runs // 16).bit_length()))
    stretches = -(-runs // stretch)
    parts = torch.empty(len(gradient), stretches, count, width, dtype=gradient.dtype, device=gradient.device)
    block, grid = 1 << (width - 1).bit_length(), (stretches, len(gradient))
    given = (gradient.contiguous(), signs, rotations, parts, gradient.shape[1], runs, width)
    with torch.cuda.device(gradient.device):
        _kernels["runs"][grid](*given, COUNT=count, STRETCH=stretch, BLOCK=block, num_warps=8)
        across = (-(-count * width // _BLOCK), len(gradient))
        strides = (into.shape[1], into.stride(0), into.stride(1))
        _kernels["parts"][across](parts, into, factor, stretches, count * width, *strides, BLOCK=_BLOCK)


def pull_back(vector: Tensor, signs: Tensor, rotations: Tensor) -> Tensor:
    """Return the transpose of `add` of u [sketches × width], not scaled: [p]."""
    count, runs = rotations.shape
    size, width = signs.shape[1], len(vector) // count
    found = torch.empty(size, dtype=vector.dtype, device=vector.device)
    with torch.cuda.device(vector.device):
        given = (vector.contiguous(), signs, rotations, found, size, runs, width)
        _kernels["back"][(-(-size // _BLOCK),)](*given, COUNT=count, BLOCK=_BLOCK)
    return found


_kernels: dict[str, Any] = {}
if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _add_runs(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        gradient, signs, rotations, parts, size, runs, width,
        COUNT: tl.constexpr, STRETCH: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        """Add the runs of one stretch into the buckets of every sketch, for one gradient."""
        stretch, row = tl.program_id(0), tl.program_id(1)
        bucket, sketch = tl.arange(0, BLOCK)[None, :], tl.arange(0, COUNT)[:, None]
        total = tl.zeros([COUNT, BLOCK], dtype=tl.float32)
        gradient += row.to(tl.int64) * size
        for step in range(STRETCH):
            run = stretch * STRETCH + step
            inside = (run < runs) & (sketch < COUNT)
            rotation = tl.load(rotations + sketch * runs + run, mask=inside, other=0).to(tl.int32)
            source = bucket - rotation
            source = tl.where(source < 0, source + width, source)
            place = run * width + source
            held = (bucket < width) & (place < size) & inside
            number = tl.load(gradient + place, mask=held, other=0.0)
            sign = tl.load(signs + sketch.to(tl.int64) * size + place, mask=held, other=0)
            total += number * sign.to(tl.float32)
        into = ((row.to(tl.int64) * tl.num_programs(0) + stretch) * COUNT + sketch) * width
        tl.store(parts + into + bucket, total, mask=bucket < width)

    @triton.jit  # type: ignore[untyped-decorator]
    def _add_parts(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        parts, into, factor, stretches, dim, groups, segment_stride, group_stride,
        BLOCK: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        """Add the stretches of one gradient in their order, and `factor` times their sum to its row."""
        row = tl.program_id(1).to(tl.int64)
        number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        there = number < dim
        total = tl.zeros([BLOCK], dtype=tl.float32)
        for stretch in range(stretches):
            total += tl.load(parts + (row * stretches + stretch) * dim + number, mask=there, other=0.0)
        place = into + (row // groups) * segment_stride + (row % groups) * group_stride + number
        tl.store(place, tl.load(place, mask=there) + factor * total, mask=there)

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
