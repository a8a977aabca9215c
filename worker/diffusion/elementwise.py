"""What lies between the matrix products of a block, each as one kernel forwards and one backwards.

    gated      a · silu(g)               of the two halves a, g of a product                    (arXiv 2002.05202)
    rotated    x cos + (−x₂, x₁) sin     in the first numbers of every head, of halves x₁, x₂    (arXiv 2104.09864)

Computed in float32 and rounded once: on GPUs in kernels where Triton is installed, which comes with CUDA builds of
torch, elsewhere in operations of torch.
"""

from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a build of torch for processors alone
    triton = None

_BLOCK = 1024


def serves(numbers: Tensor) -> bool:
    """Say whether the kernels can take `numbers`."""
    return triton is not None and numbers.is_cuda


def gated(both: Tensor) -> Tensor:
    """Return a · silu(g) [..., n] of `both` [..., 2 n], differentiable."""
    if not serves(both):
        a, g = both.float().chunk(2, -1)
        return (a * torch.nn.functional.silu(g)).to(both)
    return torch.as_tensor(_Gated.apply(both))  # type: ignore[no-untyped-call]


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return `x` [b, n, heads, d] turned by the angles of its places, cosine and sine [n, r ≤ d], differentiable."""
    if not serves(x):
        own, rest = torch.split(x.float(), [cosine.shape[1], x.shape[-1] - cosine.shape[1]], -1)
        first, second = own.chunk(2, -1)
        turned = own * cosine[:, None] + torch.cat([-second, first], -1) * sine[:, None]
        return torch.cat([turned, rest], -1).to(x)
    return torch.as_tensor(_Rotated.apply(x, cosine, sine))  # type: ignore[no-untyped-call]


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        both = both.contiguous()
        ctx.save_for_backward(both)
        found = both.new_empty(*both.shape[:-1], both.shape[-1] // 2)
        _launch("gate", found.numel(), both, found, found.shape[-1])
        return found

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        found = torch.empty_like(both)
        _launch("ungate", given.numel(), both, given.contiguous(), found, given.shape[-1])
        return found


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turn(x, cosine, sine, 1.0)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turn(given, cosine, sine, -1.0), None, None


def _turn(x: Tensor, cosine: Tensor, sine: Tensor, way: float) -> Tensor:
    """Turn by the angles, or back by them: both halves of an angle's pair have the same cosine and sine."""
    x = x.contiguous()
    found = torch.empty_like(x)
    _, length, heads, size = x.shape
    _launch("turn", x.numel(), x, cosine, sine, found, way, length, heads * size, size, cosine.shape[1])
    return found


def _launch(name: str, numbers: int, *given: Any) -> None:
    with torch.cuda.device_of(given[0]):  # type: ignore[no-untyped-call]
        _kernels[name][(-(-numbers // _BLOCK),)](*given, numbers, BLOCK=_BLOCK)


_kernels: dict[str, Any] = {}
if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _gate(both, found, half, numbers, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        there = at < numbers
        place = at // half * (2 * half) + at % half
        a = tl.load(both + place, mask=there, other=0.0).to(tl.float32)
        g = tl.load(both + place + half, mask=there, other=0.0).to(tl.float32)
        tl.store(found + at, a * g * tl.sigmoid(g), mask=there)

    @triton.jit  # type: ignore[untyped-decorator]
    def _ungate(both, given, found, half, numbers, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803, PLR0913
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        there = at < numbers
        place = at // half * (2 * half) + at % half
        a = tl.load(both + place, mask=there, other=0.0).to(tl.float32)
        g = tl.load(both + place + half, mask=there, other=0.0).to(tl.float32)
        delta = tl.load(given + at, mask=there, other=0.0).to(tl.float32)
        gate = tl.sigmoid(g)
        tl.store(found + place, delta * g * gate, mask=there)
        tl.store(found + place + half, delta * a * gate * (1 + g * (1 - gate)), mask=there)

    @triton.jit  # type: ignore[untyped-decorator]
    def _turned(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        x, cosine, sine, found, way, length, wide, size, turned, numbers,
        BLOCK: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        there = at < numbers
        own = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
        number, half = at % size, turned // 2
        within = there & (number < turned)
        first = number < half
        pair = tl.load(x + tl.where(first, at + half, at - half), mask=within, other=0.0).to(tl.float32)
        angle = (at // wide) % length * turned + number
        c = tl.load(cosine + angle, mask=within, other=1.0)
        s = tl.load(sine + angle, mask=within, other=0.0) * way
        tl.store(found + at, own * c + tl.where(first, -pair, pair) * s, mask=there)

    _kernels = {"gate": _gate, "ungate": _ungate, "turn": _turned}
