"""Scans and sums on a GPU that read every kept number once, and write nothing that is not asked for.

    found(q, i) = Σ_m f_{im} (c_{qm} ⟨codes_{im}, h_{qm}⟩ + d_{qm} ⟨codes_{im}, l_{qm}⟩)     u = c h + d l, a byte each
    sums(q, s)  = Σ_{i ∈ s} w_i found(q, i)                                              in float64, in their order

Products are whole numbers on the integer cores and added without rounding; no atomic additions, so the same bits on
every run. Rows of four bits are unpacked where they are multiplied. Served where Triton is installed, which comes with
CUDA builds of torch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a build of torch for processors alone
    triton = None

_ROWS, _STEP, _WARPS, _STAGES = 128, 128, 4, 4
_LEAST, _MOST = 16, 64
_SONGS = 128


def serves(codes: Tensor, dim: int) -> bool:
    """Say whether `scanned` can take codes [m, n, bytes] of rows of `dim` numbers."""
    width = codes.shape[2]
    fits = width % _STEP == 0 and dim in (width, 2 * width)
    return triton is not None and codes.is_cuda and fits and codes[0].is_contiguous()


@dataclass(frozen=True)
class Halves:
    """Vectors of `scan.Split`, high and low [q, m, k] int8 with their scales coarse and fine [q, m, 1]."""

    high: Tensor
    low: Tensor
    coarse: Tensor
    fine: Tensor

    def part(self, chosen: slice) -> "Halves":
        """Return some of the vectors, filled up with zeros to a number that the cores take."""
        found = [x[chosen] for x in (self.high, self.low, self.coarse, self.fine)]
        count = len(found[0])
        spare = max(_LEAST, 1 << (count - 1).bit_length()) - count
        return Halves(*(torch.nn.functional.pad(x, (0, 0, 0, 0, 0, spare)).contiguous() for x in found))


def scanned(codes: Tensor, factor: Tensor, halves: Halves, into: Tensor) -> None:
    """Write the scores of codes [m, n, k or k/2] with factors [n, m] for every vector into `into` [q, n] float32."""
    codes = codes.view(torch.int8)
    for first in range(0, len(into), _MOST):
        part = into[first : first + _MOST]
        _scan(codes, factor, halves.part(slice(first, first + _MOST)), part)


def _scan(codes: Tensor, factor: Tensor, halves: Halves, into: Tensor) -> None:
    measures, rows, width = codes.shape
    count, _, dim = halves.high.shape
    given = (codes, halves.high, halves.low, halves.coarse, halves.fine, factor.contiguous(), into)
    sizes = (rows, len(into), codes.stride(0), into.stride(0))
    shape: dict[str, Any] = {"MEASURES": measures, "DIM": dim, "WIDTH": width, "QUERIES": count}
    grid = (triton.cdiv(rows, _ROWS),)
    _kernels["scan"][grid](*given, *sizes, **shape, ROWS=_ROWS, STEP=_STEP, num_warps=_WARPS, num_stages=_STAGES)


def sums(scores: Tensor, weight: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """Return Σ weight × score over every song's segments [q, songs] float64.

    scores: [q, n] float32; weight: [n] float64; bounds: [songs + 1] int64, where each song's segments begin; longest:
    the most segments of a song.
    """
    songs = len(bounds) - 1
    found = torch.empty(len(scores), songs, dtype=torch.float64, device=scores.device)
    grid = (triton.cdiv(songs, _SONGS), len(scores))
    _kernels["sum"][grid](scores, weight, bounds, found, songs, longest, scores.stride(0), SONGS=_SONGS)
    return found


def sums_serve(scores: Tensor) -> bool:
    """Say whether `sums` can take `scores`."""
    return triton is not None and scores.is_cuda and scores.dtype == torch.float32 and scores.stride(-1) == 1


_kernels: dict[str, Any] = {}
if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _scan_rows(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        codes, high, low, coarse, fine, factor, into, rows, queries, codes_stride, into_stride,
        MEASURES: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, QUERIES: tl.constexpr,  # noqa: N803
        ROWS: tl.constexpr, STEP: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        """Score one block of rows for all vectors."""
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        query, step = tl.arange(0, QUERIES), tl.arange(0, STEP)
        there = row < rows
        total = tl.zeros([ROWS, QUERIES], dtype=tl.float32)
        for measure in range(MEASURES):
            first = tl.zeros([ROWS, QUERIES], dtype=tl.int32)
            second = tl.zeros([ROWS, QUERIES], dtype=tl.int32)
            kept = codes + measure * codes_stride + row[:, None] * WIDTH
            asked = (query * MEASURES + measure)[None, :] * DIM
            for at in range(0, WIDTH, STEP):
                byte = tl.load(kept + (at + step)[None, :], mask=there[:, None], other=0)
                place = asked + (at + step)[:, None]
                if WIDTH == DIM:
                    first += tl.dot(byte, tl.load(high + place), out_dtype=tl.int32)
                    second += tl.dot(byte, tl.load(low + place), out_dtype=tl.int32)
                else:
                    lower, upper = ((byte << 4) >> 4).to(tl.int8), (byte >> 4).to(tl.int8)
                    first += tl.dot(lower, tl.load(high + place), out_dtype=tl.int32)
                    second += tl.dot(lower, tl.load(low + place), out_dtype=tl.int32)
                    first += tl.dot(upper, tl.load(high + WIDTH + place), out_dtype=tl.int32)
                    second += tl.dot(upper, tl.load(low + WIDTH + place), out_dtype=tl.int32)
            scale = query * MEASURES + measure
            part = first.to(tl.float32) * tl.load(coarse + scale)[None, :]
            part += second.to(tl.float32) * tl.load(fine + scale)[None, :]
            total += part * tl.load(factor + row * MEASURES + measure, mask=there, other=0.0)[:, None]
        place = into + query[None, :].to(tl.int64) * into_stride + row[:, None]
        tl.store(place, total, mask=there[:, None] & (query < queries)[None, :])

    @triton.jit  # type: ignore[untyped-decorator]
    def _sum_songs(scores, weight, bounds, found, songs, longest, scores_stride, SONGS: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803, PLR0913
        """Sum the segments of one block of songs for one query, each song's in their order."""
        song, query = tl.program_id(0) * SONGS + tl.arange(0, SONGS), tl.program_id(1).to(tl.int64)
        there = song < songs
        first = tl.load(bounds + song, mask=there, other=0)
        count = tl.load(bounds + song + 1, mask=there, other=0) - first
        total = tl.zeros([SONGS], dtype=tl.float64)
        for at in range(longest):
            held = at < count
            score = tl.load(scores + query * scores_stride + first + at, mask=held, other=0.0)
            total += score.to(tl.float64) * tl.load(weight + first + at, mask=held, other=0.0)
        tl.store(found + query * songs + song, total, mask=there)

    _kernels = {"scan": _scan_rows, "sum": _sum_songs}
