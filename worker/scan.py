"""Scanning the kept rows: the scores of all segments for several queries in one pass, and the best of many scores.

    score(q, i) = Σ_m f_{im} ⟨codes_{im}, u_{qm}⟩          u = C⁻¹ K(q), f what turns codes into the row scaling

Rows stay a byte a number, or half a one. On a GPU they lie there as long as they fit and are streamed in pieces
otherwise; u is split into two numbers of a byte each, and the products are whole numbers, multiplied on integer tensor
cores and added without rounding, in one pass over the rows where `onepass` serves. On a processor, and for shapes that
those cores do not take, the products are made in float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from worker import onepass
from worker.attribution.influence import RowScale
from worker.shards import Bytes, Stack, lengths, unpacked

LEVELS = 127
SPARE = 0.6
"""The part of a GPU's free memory that rows may take."""
_PIECE, _FLOATS = 1 << 18, 1 << 13
_LEAST_ROWS, _MULTIPLE = 32, 16


@dataclass(frozen=True)
class Split:
    """Vectors [q, m, k] as two numbers of a byte: high · coarse + low · fine, both scales [q, m, 1].

    What is left out is at most 1/64516 of a vector's largest number.
    """

    high: Tensor
    low: Tensor
    coarse: Tensor
    fine: Tensor

    @property
    def halves(self) -> onepass.Halves:
        """The same, as kernels take it."""
        return onepass.Halves(self.high, self.low, self.coarse, self.fine)

    @staticmethod
    def of(vectors: Tensor) -> "Split":
        """Split float32 `vectors` [q, m, k]."""
        tiny = torch.finfo(torch.float32).tiny
        coarse = vectors.abs().amax(-1, keepdim=True).clamp_min(tiny) / LEVELS
        high = (vectors / coarse).round()
        fine = coarse / (2 * LEVELS)
        low = ((vectors - high * coarse) / fine).round().clamp(-LEVELS, LEVELS)
        return Split(high.to(torch.int8), low.to(torch.int8), coarse, fine)


@dataclass(frozen=True, eq=False)
class Scan:
    """Rows ready to be scanned: codes [m, n, k], or [m, n, k/2] in four bits, where there is room; factor [n, m].

    device: where they are multiplied; the factors lie there.
    """

    codes: Tensor
    factor: Tensor
    device: torch.device

    @staticmethod
    def of(rows: Bytes, scale: RowScale, device: torch.device, room: int | None = None) -> "Scan":
        """Prepare `rows` [n, m, k]; they move to `device` unless they need more than `room` bytes of it.

        Without `room`, `SPARE` of what is free there.
        """
        codes = rows.codes[:].transpose(0, 1)
        if room is None:
            room = int(SPARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else codes.nbytes
        if device.type != codes.device.type and codes.nbytes <= room:
            moved = torch.empty(codes.shape, dtype=codes.dtype, device=device)
            for into, part in zip(moved, codes, strict=True):
                into.copy_(part)
            codes = moved
        return Scan(codes, _factor(codes, rows.scale[:], scale).to(device), device)

    @property
    def resident(self) -> bool:
        """Whether the rows lie where they are multiplied."""
        return self.codes.device.type == self.device.type

    def scores(self, solved: Tensor) -> Tensor:
        """Return the scores [q, n] of `solved` vectors [q, m, k], float32 on the device."""
        solved = solved.float().to(self.device)
        found = torch.empty(len(solved), len(self.factor), device=self.device)
        ready = _Columns.of(solved) if self._integers(solved.shape[-1]) else None
        for piece, codes in self._pieces():
            factor, into = self.factor[piece], found[:, piece]
            if ready and onepass.serves(codes, solved.shape[-1]):
                onepass.scanned(codes, factor, ready.split.halves, into)
            else:
                many = ready is not None and codes.shape[1] >= _LEAST_ROWS
                parts = ready.products(unpacked(codes)) if ready and many else _products(codes, solved)
                into.copy_((parts * factor.mT[:, :, None]).sum(0).mT)
        return found

    def _integers(self, dim: int) -> bool:
        return self.device.type == "cuda" and dim % _MULTIPLE == 0 and _has_integer_cores(self.device)

    def _pieces(self) -> Iterator[tuple[slice, Tensor]]:
        whole = self.resident and self.device.type == "cuda" and onepass.serves(self.codes, self.codes.shape[2])
        for start in range(0, len(self.factor), len(self.factor) if whole else _PIECE):
            piece = slice(start, len(self.factor) if whole else min(start + _PIECE, len(self.factor)))
            yield piece, self._there(self.codes[:, piece])

    def _there(self, codes: Tensor) -> Tensor:
        """Return `codes` where they are multiplied, each measure's in one run, so that the same kernels serve them."""
        return codes if self.resident else codes.to(self.device, non_blocking=True).contiguous()


@dataclass(frozen=True, eq=False)
class Scans:
    """Rows that lie in several files and stay there, scanned one after the other."""

    files: tuple[Scan, ...]

    @property
    def resident(self) -> bool:
        """Whether the rows lie where they are multiplied."""
        return all(file.resident for file in self.files)

    def scores(self, solved: Tensor) -> Tensor:
        """Return the scores [q, n] of `solved` vectors [q, m, k], float32 on the device."""
        return torch.cat([file.scores(solved) for file in self.files], 1)


def scan_of(rows: Bytes, scale: RowScale, device: torch.device, room: int | None = None) -> Scan | Scans:
    """Prepare `rows` [n, m, k] of one file or of several, which become one on a GPU that has `room` for them."""
    if isinstance(rows.codes, Tensor):
        return Scan.of(rows, scale, device, room)
    if device.type == "cuda":
        free = int(SPARE * torch.cuda.mem_get_info(device)[0]) if room is None else room
        if rows.codes.shape.numel() <= free:
            codes = _gathered(rows.codes, device)
            return Scan(codes, _factor(codes, rows.scale[:].to(device), scale), device)
    scales = torch.split(rows.scale[:], lengths(rows))
    each = zip(rows.codes.parts, scales, strict=True)
    return Scans(tuple(Scan.of(Bytes(codes, own), scale, device, 0) for codes, own in each))


def _gathered(stack: Stack, device: torch.device) -> Tensor:
    """Return the rows [n, m, k] of all files as codes [m, n, k] on `device`, moved file by file."""
    count, measures, dim = stack.shape
    moved, first = torch.empty(measures, count, dim, dtype=stack.dtype, device=device), 0
    for part in stack.parts:
        moved[:, first : first + len(part)].copy_(part.transpose(0, 1))
        first += len(part)
    return moved


@dataclass(frozen=True)
class _Columns:
    """Split vectors as the integer cores take them: [m, columns, k], columns high then low, filled up to a multiple."""

    packed: Tensor
    split: Split

    @staticmethod
    def of(solved: Tensor) -> "_Columns":
        split = Split.of(solved)
        both = torch.cat([split.high, split.low]).transpose(0, 1)
        spare = -both.shape[1] % _MULTIPLE
        return _Columns(torch.nn.functional.pad(both, (0, 0, 0, spare)).contiguous(), split)

    def products(self, codes: Tensor) -> Tensor:
        """Return ⟨codes, u⟩ [m, n, q] of codes [m, n, k]."""
        count = len(self.split.coarse)
        found = []
        for part, packed, coarse, fine in zip(
            codes, self.packed, self.split.coarse.unbind(1), self.split.fine.unbind(1), strict=True
        ):
            whole = torch._int_mm(part, packed.mT)
            high, low = whole[:, :count].float(), whole[:, count : 2 * count].float()
            found.append(high * coarse.mT + low * fine.mT)
        return torch.stack(found)


@lru_cache(maxsize=8)
def _has_integer_cores(device: torch.device) -> bool:
    """Say whether whole numbers of a byte can be multiplied on `device`, by trying."""
    ones = torch.ones(_LEAST_ROWS, _MULTIPLE, dtype=torch.int8, device=device)
    try:
        return bool((torch._int_mm(ones, ones[:_MULTIPLE].mT) == _MULTIPLE).all())
    except RuntimeError:
        return False


def _products(codes: Tensor, solved: Tensor) -> Tensor:
    """Return ⟨codes, u⟩ [m, n, q] in float32."""
    columns = solved.transpose(0, 1).mT
    return torch.cat([torch.bmm(unpacked(run).float(), columns) for run in torch.split(codes, _FLOATS, 1)], 1)


def _factor(codes: Tensor, kept: Tensor, scale: RowScale) -> Tensor:
    """Return what turns codes [m, n, k] into the row scaling, [n, m]; a part of zeros stays zero."""
    if scale is RowScale.NONE:
        return kept.squeeze(-1).float()
    pieces = torch.split(codes, _FLOATS if codes.device.type == "cpu" else _PIECE, 1)
    length = torch.cat([torch.linalg.vector_norm(unpacked(piece).float(), dim=-1) for piece in pieces], 1).mT
    return torch.where(length > 0, 1 / length.clamp(min=1), 0.0)


def best(scores: Tensor, most: int) -> Tensor:
    """Return the places of the `most` highest scores [n], highest first, ties in their own order.

    The beginning of `influence.rank`, without sorting what it leaves out.
    """
    most = min(most, len(scores))
    least = torch.topk(scores, most).values[-1]
    places = (scores >= least).nonzero()[:, 0]
    return places[torch.argsort(scores[places], descending=True, stable=True)[:most]]
