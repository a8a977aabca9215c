"""Inner products of gradients, kept so small that every kernel method can be computed from them without a GPU.

    K_nn[a,i,b,j] = ⟨g_{a,i}, g_{b,j}⟩,   K_qn[a,q,b,j] = ⟨g_{a,q}, g_{b,j}⟩,   K_qq[q,a,b] = ⟨g_{a,q}, g_{b,q}⟩

a, b are bands of noise, i, j training segments, q queries. A weighting w of the bands, Σ_a w_a g_a, has the inner
products Σ_ab w_a w_b K[a,b]; unit rows divide by roots of the diagonal. Files hold cosines in half precision beside
lengths in single precision, and of a symmetric matrix one triangle.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from worker.attribution.measure import exact_float32

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bench.faithfulness.gradients_rows import Spans

_GROUP = re.compile(r"transformer_blocks\.(\d+)\.(attn1|attn2|ff)\b")


@dataclass(frozen=True)
class Kernel:
    """Inner products of one row a segment: songs [n, n], cross [q, n], lengths squared of the queries' rows [q]."""

    songs: Tensor
    cross: Tensor
    queries: Tensor

    def unit(self) -> Kernel:
        """Return the inner products of the rows at unit length; a row of zeros stays zero."""
        song, query = _inverse_root(self.songs.diagonal()), _inverse_root(self.queries)
        return Kernel(
            self.songs * song[:, None] * song, self.cross * query[:, None] * song, self.queries * query.square()
        )


@dataclass(frozen=True)
class Gram:
    """Inner products of band rows: songs [B, n, B, n], cross [B, q, B, n], queries [q, B, B]."""

    songs: Tensor
    cross: Tensor
    queries: Tensor

    @property
    def bands(self) -> int:
        """How many bands of noise there are."""
        return len(self.songs)

    def __add__(self, other: Gram) -> Gram:
        return Gram(self.songs + other.songs, self.cross + other.cross, self.queries + other.queries)

    def kernel(self, weights: Tensor | None = None) -> Kernel:
        """Return the inner products of Σ_a w_a g_a, in float64; without weights, of the mean over the bands."""
        w = torch.full((self.bands,), 1 / self.bands) if weights is None else weights
        w = w.to(self.songs.device, torch.float64)
        if w.shape != (self.bands,):
            raise ValueError(f"{self.bands} bands have as many weights, not {list(w.shape)}")
        return Kernel(
            torch.einsum("a,aibj,b->ij", w, self.songs.double(), w),
            torch.einsum("a,aqbj,b->qj", w, self.cross.double(), w),
            torch.einsum("a,qab,b->q", w, self.queries.double(), w),
        )

    def mean(self) -> Gram:
        """Return the one-band Gram of the mean over the bands."""
        kernel = self.kernel()
        return Gram(kernel.songs[None, :, None], kernel.cross[None, :, None], kernel.queries[:, None, None])


def weight_grams(songs: Tensor, queries: Tensor, spans: Spans) -> Iterator[tuple[str, Gram]]:
    """Yield every weight's part of the Gram of rows songs [B, n, p] and queries [B, q, p], products in float32."""
    bands, n, q = len(songs), songs.shape[1], queries.shape[1]
    with exact_float32():
        for name, (start, end) in spans.items():
            s = songs[..., start:end].reshape(bands * n, -1)
            r = queries[..., start:end].reshape(bands * q, -1)
            pairs = torch.einsum("aqp,bqp->qab", queries[..., start:end], queries[..., start:end])
            yield (
                name,
                Gram((s @ s.mT).view(bands, n, bands, n), (r @ s.mT).view(bands, q, bands, n), pairs),
            )


def gram(songs: Tensor, queries: Tensor, spans: Spans | None = None) -> Gram:
    """Return the Gram of rows songs [B, n, p] and queries [B, q, p]: summed over the weights in float64."""
    return _summed(weight_grams(songs, queries, spans or {"": (0, songs.shape[-1])}))


def grouped_grams(songs: Tensor, queries: Tensor, spans: Spans) -> dict[str, Gram]:
    """Return the one-band Gram of every attention or feed-forward part of every block: "0.attn1" → Gram."""
    found: dict[str, Gram] = {}
    for name, part in weight_grams(songs, queries, spans):
        group, mean = _group(name), part.mean()
        found[group] = found[group] + mean if group in found else mean
    return found


def _summed(parts: Iterator[tuple[str, Gram]]) -> Gram:
    total: Gram | None = None
    for _, part in parts:
        exact = Gram(part.songs.double(), part.cross.double(), part.queries.double())
        total = exact if total is None else total + exact
    if total is None:
        raise ValueError("no weights, no inner products")
    return Gram(total.songs.float(), total.cross.float(), total.queries.float())


def _group(name: str) -> str:
    found = _GROUP.search(name)
    return f"{found[1]}.{found[2]}" if found else "rest"


@dataclass(frozen=True)
class Grams:
    """Grams by name (a measure, or a measure and a projection), of the same segments of `songs` songs.

    song: the song of each segment [n]; weight: how often training drew it, relatively [n].
    """

    named: Mapping[str, Gram]
    song: Tensor
    weight: Tensor
    songs: int

    def save(self, path: Path) -> None:
        """Write all of them into one file of half-precision cosines."""
        tensors = {"song": self.song.cpu(), "weight": self.weight.cpu()}
        for name, one in self.named.items():
            tensors |= {f"{name}/{key}": value for key, value in _packed(one).items()}
        save_file(tensors, path, metadata={"names": json.dumps(list(self.named)), "songs": str(self.songs)})

    @classmethod
    def load(cls, *paths: Path) -> Grams:
        """Read what `save` wrote, the names of all files together; raises ValueError where their segments differ."""
        named: dict[str, Gram] = {}
        parts = []
        for path in paths:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata()
                parts.append((file.get_tensor("song"), file.get_tensor("weight"), int(facts["songs"])))
                for name in json.loads(facts["names"]):
                    keys = ("triangle", "cross", "queries", "lengths")
                    named[name] = _unpacked({key: file.get_tensor(f"{name}/{key}") for key in keys})
        song, weight, songs = parts[0]
        if not all(torch.equal(song, other) and songs == count for other, _, count in parts):
            raise ValueError("these files are of different training segments")
        return cls(named, song, weight, songs)


def _packed(one: Gram) -> dict[str, Tensor]:
    bands, n = one.songs.shape[:2]
    square = one.songs.reshape(bands * n, bands * n).double().cpu()
    pairs = one.queries.double().cpu()
    lengths, asked = square.diagonal().clamp(min=0).sqrt(), pairs.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    scale, ask = _inverse_root(lengths.square()), _inverse_root(asked.square()).mT.reshape(-1)
    low = torch.tril_indices(bands * n, bands * n)
    cosines = square * scale[:, None] * scale
    cross = one.cross.reshape(-1, bands * n).double().cpu() * ask[:, None] * scale
    return {
        "triangle": cosines[low[0], low[1]].half().contiguous(),
        "cross": cross.view(bands, -1, bands, n).half().contiguous(),
        "queries": pairs.float().contiguous(),
        "lengths": lengths.view(bands, n).float().contiguous(),
    }


def _unpacked(kept: Mapping[str, Tensor]) -> Gram:
    lengths, pairs = kept["lengths"], kept["queries"]
    bands, n = lengths.shape
    low = torch.tril_indices(bands * n, bands * n)
    square = torch.zeros(bands * n, bands * n)
    square[low[0], low[1]] = kept["triangle"].float()
    square[low[1], low[0]] = kept["triangle"].float()
    square.fill_diagonal_(1.0)
    flat = lengths.flatten()
    asked = pairs.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt().mT
    return Gram(
        (square * flat[:, None] * flat).view(bands, n, bands, n),
        kept["cross"].float() * asked[:, :, None, None] * lengths,
        pairs,
    )


def _inverse_root(squares: Tensor) -> Tensor:
    return torch.where(squares > 0, squares.clamp(min=1e-300).rsqrt(), 0.0)
