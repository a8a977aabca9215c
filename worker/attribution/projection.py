"""Random projections that keep inner products: a gradient of millions of numbers becomes a row of k.

    E[⟨P x, P y⟩] = ⟨x, y⟩,   Var ≤ (‖x‖²‖y‖² + ⟨x, y⟩²) / k      (count sketch; sparse JL, arXiv 1012.1577)

Used on gradients as in TRAK (arXiv 2303.14186) and GraSS (arXiv 2505.18976). Every weight has its own slice of P, a
pure function of (seed, weight name), the same on every device and in every process, so slices can be applied one weight
at a time inside a backward pass and rows of the index stay comparable for ever. Pᵀ turns a direction of the projected
space back into a step of the weights: ⟨g, Pᵀu⟩ = ⟨P g, u⟩ exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from math import sqrt
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch reader knows
from torch import Tensor

from worker.attribution import fused
from worker.attribution.noise import counter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.attribution.types import Params


class Slice(Protocol):
    """The part of P that belongs to one weight of p numbers."""

    def project(self, gradient: Tensor) -> Tensor:
        """Return gradient [s, p] · P_wᵀ: [s, k]."""
        ...

    def pull_back(self, vector: Tensor) -> Tensor:
        """Return the transpose P_wᵀ u of u [k]: [p]."""
        ...


class Projection(Protocol):
    """A linear map P from all selected weights to k = `dim` numbers, given weight by weight."""

    def __hash__(self) -> int:
        """Equal projections have equal slices, which are kept by it."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a projected row."""
        ...

    def slice(self, name: str, size: int, device: torch.device) -> Slice:
        """Return the slice of the weight `name` of `size` numbers, ready on `device`."""
        ...


@dataclass(frozen=True)
class SJLT:
    """Sparse Johnson-Lindenstrauss transform with `nonzeros` non-zero entries ±1/√nonzeros in every column.

    The k rows fall into `nonzeros` blocks (Kane and Nelson's block construction, arXiv 1012.1577); each is a count
    sketch of its own. Raises ValueError where `nonzeros` does not divide `dim`.
    """

    seed: int
    dim: int
    nonzeros: int = 1

    def __post_init__(self) -> None:
        if self.seed < 0 or self.dim < 1 or self.nonzeros < 1 or self.dim % self.nonzeros:
            raise ValueError(f"SJLT needs seed >= 0, dim >= 1 and nonzeros dividing dim: got {self}")

    def slice(self, name: str, size: int, device: torch.device) -> _Sketches:
        """Draw the signs and rotations of one weight from (seed, name); the same on every device."""
        width = self.dim // self.nonzeros
        parts = [_sketch(self.seed, f"{name}#{i}", size, width, device) for i in range(self.nonzeros)]
        signs, rotations = (torch.stack(x) for x in zip(*parts, strict=True))
        return _Sketches(signs, rotations, width)


@dataclass(frozen=True, eq=False)
class _Sketches:
    """Count sketches of p numbers, `width` buckets each, side by side.

    Coordinate j has the bucket h(j) = (j + rotation[j // width]) mod width and a random sign. Those within a run of
    `width` never meet and all others meet with probability 1/width, so the variance is at most that of a fully random
    hash, while projecting is a gather and a sum: no atomic additions, hence the same bits on every run of a GPU.
    """

    signs: Tensor  # [sketches, p] int8
    rotations: Tensor  # [sketches, ceil(p / width)] int64
    width: int

    def project(self, gradient: Tensor) -> Tensor:
        _check_size(gradient.shape[-1], self.signs.shape[1])
        if fused.serves(gradient):
            found = gradient.new_zeros(len(gradient), 1, len(self.signs) * self.width)
            self.add(gradient, found, 1.0)
            return found[:, 0]
        parts = [self._project(gradient, *one) for one in zip(self.signs, self.rotations, strict=True)]
        return torch.cat(parts, 1) / sqrt(len(parts))

    def add(self, gradient: Tensor, into: Tensor, factor: float) -> None:
        _check_size(gradient.shape[-1], self.signs.shape[1])
        fused.add(gradient, self.signs, self.rotations, into, factor / sqrt(len(self.signs)))

    def pull_back(self, vector: Tensor) -> Tensor:
        _check_size(vector.shape[-1], len(self.signs) * self.width)
        if fused.serves(vector):
            return fused.pull_back(vector, self.signs, self.rotations) / sqrt(len(self.signs))
        pieces = zip(self.signs, self.rotations, vector.chunk(len(self.signs)), strict=True)
        return torch.stack([self._pull_back(*piece) for piece in pieces]).sum(0) / sqrt(len(self.signs))

    def _project(self, gradient: Tensor, signs: Tensor, rotations: Tensor) -> Tensor:
        padding = len(rotations) * self.width - len(signs)
        runs = F.pad(gradient * signs, (0, padding)).view(len(gradient), -1, self.width)
        buckets = torch.arange(self.width, device=signs.device)
        sources = (buckets - rotations[:, None]) % self.width  # which coordinate of each run falls into each bucket
        return runs.gather(2, sources.expand(len(gradient), -1, -1)).sum(1)

    def _pull_back(self, signs: Tensor, rotations: Tensor, vector: Tensor) -> Tensor:
        buckets = torch.arange(self.width, device=vector.device) + rotations[:, None]
        return vector[buckets % self.width].flatten()[: len(signs)] * signs


def _sketch(seed: int, name: str, size: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return signs [p] int8 and rotations [ceil(p / width)] int64; bits are unpacked where they are needed."""
    runs = -(-size // width)
    stream = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    words = counter(seed, stream).random_raw(runs + -(-size // 64)).astype("<u8")
    rotations = torch.from_numpy((words[:runs] % np.uint64(width)).astype(np.int64))
    packed = torch.from_numpy(words[runs:].view(np.uint8)).to(device)
    high_first = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
    bits = ((packed[:, None] >> high_first) & 1).flatten()[:size].to(torch.int8)
    return 1 - 2 * bits, rotations.to(device)


@lru_cache(maxsize=2)
def slices(projection: Projection, sizes: tuple[tuple[str, int], ...], device: torch.device) -> Mapping[str, Slice]:
    """Return the slices of all weights of (name, size), made once and kept on `device`."""
    return {name: projection.slice(name, size, device) for name, size in sizes}


def add_projected(part: Slice, gradient: Tensor, into: Tensor, factor: float) -> None:
    """Add `factor` times the projections of gradients [s g, p] to `into` [s, g, k]."""
    if isinstance(part, _Sketches) and fused.serves(gradient) and fused.serves(into) and into.stride(-1) == 1:
        part.add(gradient, into, factor)
    else:
        into.add_(part.project(gradient).view(into.shape), alpha=factor)


@dataclass(frozen=True)
class Identity:
    """No projection: the weights of `spans` (name → first and last place) side by side, k = p."""

    spans: Mapping[str, tuple[int, int]]

    def __hash__(self) -> int:
        return hash(tuple(self.spans.items()))

    @staticmethod
    def of(params: Params) -> Identity:
        """Lay out `params` in their own order."""
        ends = list(accumulate(p.numel() for p in params.values()))
        return Identity(dict(zip(params, zip([0, *ends], ends, strict=False), strict=True)))

    @property
    def dim(self) -> int:
        """Numbers in all weights."""
        return max(end for _, end in self.spans.values())

    def slice(self, name: str, size: int, device: torch.device) -> _Span:  # noqa: ARG002 - Projection's face
        """Return the place of `name` in the row; raises ValueError for an unknown weight or another size."""
        if name not in self.spans:
            raise ValueError(f"weight {name!r} has no place in this layout")
        start, end = self.spans[name]
        _check_size(size, end - start)
        return _Span(start, end, self.dim)


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    dim: int

    def project(self, gradient: Tensor) -> Tensor:
        return F.pad(gradient, (self.start, self.dim - self.end))

    def pull_back(self, vector: Tensor) -> Tensor:
        return vector[self.start : self.end]


def pull_back(projection: Projection, vector: Tensor, like: Params) -> Params:
    """Return Pᵀu, a direction in the space of the weights `like`, for u [k]: name → tensor of the weight's shape."""
    if vector.shape != (projection.dim,):
        raise ValueError(f"a vector of the projected space is [{projection.dim}], not {list(vector.shape)}")
    kept = slices(projection, tuple((name, weight.numel()) for name, weight in like.items()), vector.device)
    return {name: kept[name].pull_back(vector).view(weight.shape) for name, weight in like.items()}


def _check_size(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"expected {expected} numbers, got {found}")
