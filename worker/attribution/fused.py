"""Count sketches on a GPU in one kernel: every number of a gradient is read where it is added, and nothing between.

The same sums as `projection` makes of tensor operations, which write and read every number several times over. Each
program adds a stretch of runs in their order and all stretches are added in theirs: no atomic additions, so the same
bits on every run. Served where Triton is installed, which comes with CUDA builds of torch.
"""

from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a build of torch for processors alone
    triton = None

_STRETCH = 128


def serves(gradient: Tensor) -> bool:
    """Say whether `project` can take `gradient`."""
    return triton is not None and gradient.is_cuda and gradient.dtype == torch.float32


def project(gradient: Tensor, signs: Tensor, rotations: Tensor, width: int) -> Tensor:
    """Return the sketches [n, sketches × width] of gradients [n, p], not scaled.

    signs: [sketches, p] int8; rotations: [sketches, ceil(p / width)] int64; as `projection` draws them.
    """
    count, runs = rotations.shape
    stretches = -(-runs // _STRETCH)
    parts = torch.empty(len(gradient), stretches, count, width, dtype=gradient.dtype, device=gradient.device)
    block, grid = 1 << (width - 1).bit_length(), (count, stretches, len(gradient))
    gradient = gradient.contiguous()
    given = (gradient, signs, rotations, parts, gradient.shape[1], runs, width)
    with torch.cuda.device(gradient.device):
        _add_runs[grid](*given, STRETCH=_STRETCH, BLOCK=block)
    return parts.sum(1).flatten(1)


_add_runs: Any = None
if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _kernel(gradient, signs, rotations, parts, size, runs, width, STRETCH: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803, PLR0913
        """Add the runs of one stretch into the buckets of one sketch, for one gradient."""
        sketch, stretch, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        bucket = tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        gradient += row.to(tl.int64) * size
        signs += sketch.to(tl.int64) * size
        for step in range(STRETCH):
            run = stretch * STRETCH + step
            inside = run < runs
            rotation = tl.load(rotations + sketch * runs + run, mask=inside, other=0).to(tl.int32)
            source = bucket - rotation
            source = tl.where(source < 0, source + width, source)
            place = run * width + source
            held = (bucket < width) & (place < size) & inside
            number = tl.load(gradient + place, mask=held, other=0.0)
            sign = tl.load(signs + place, mask=held, other=0)
            total += number * sign.to(tl.float32)
        into = ((row.to(tl.int64) * tl.num_programs(1) + stretch) * tl.num_programs(0) + sketch) * width
        tl.store(parts + into + bucket, total, mask=bucket < width)

    _add_runs = _kernel
