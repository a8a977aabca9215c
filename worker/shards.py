"""Files of an index: tensors in a byte or less a number, written whole or not at all, mapped into memory when read."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from worker.manifest import IndexMismatch, put

_STEPS_AN_OCTAVE = 10.0
_ZERO = 255
_TINY = torch.finfo(torch.float32).tiny
_TOP = 7
_STEPS = (0.3, 0.335, 0.37, 0.42, 0.5, 0.7, 1.0)
"""Distances between the levels of four bits, in root mean squares of a run: about normal runs lose least near 0.34."""


@dataclass(frozen=True)
class Stack:
    """Tensors that lie in several files, seen as one along the first axis; only what is asked for is read."""

    parts: Sequence[Tensor]

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole."""
        return torch.Size((len(self), *self.parts[0].shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return self._bounds[-1]

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        if isinstance(chosen, Tensor):
            return self._picked(chosen)
        first, last, step = chosen.indices(len(self))
        if step != 1:
            raise ValueError("a stack is read in runs")
        spans = zip(pairwise(self._bounds), self.parts, strict=True)
        found = [
            part[max(first - begin, 0) : last - begin] for (begin, end), part in spans if begin < last and first < end
        ]
        return found[0] if len(found) == 1 else torch.cat([self.parts[0][:0], *found])

    def to(self, device: torch.device | str) -> Tensor:
        """Return the whole on `device`, moved file by file."""
        whole = torch.empty(self.shape, dtype=self.parts[0].dtype, device=device)
        for (begin, end), part in zip(pairwise(self._bounds), self.parts, strict=True):
            whole[begin:end] = part
        return whole

    def _picked(self, chosen: Tensor) -> Tensor:
        places = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen.cpu() % len(self)
        found = self.parts[0].new_empty((len(places), *self.shape[1:]))
        owners = torch.bucketize(places, torch.tensor(self._bounds[1:]), right=True)
        for number in sorted(set(owners.tolist())):
            own = owners == number
            found[own] = self.parts[number][places[own] - self._bounds[number]]
        return found

    @cached_property
    def _bounds(self) -> list[int]:
        return [0, *accumulate(len(part) for part in self.parts)]


@dataclass(frozen=True)
class Bytes:
    """Numbers [..., n] in a signed byte each, or in half a one, with a scale for every run of n: code × scale.

    codes: int8 [..., n]; in four bits uint8 [..., n/2], the first half of a run in the low bits, the other in the high.
    """

    codes: Tensor | Stack
    scale: Tensor | Stack

    @classmethod
    def of(cls, values: Tensor, bits: int = 8) -> "Bytes":
        """Round `values` [..., n]: in eight bits to 255 levels up to the largest magnitude in the run.

        In four to 15 levels as far apart as loses least of the direction. Raises ValueError for other `bits`, and for
        four with odd n.
        """
        values = values.detach().float().cpu()
        if bits == 4:
            return cls(*_in_four(values))
        if bits != 8:
            raise ValueError(f"numbers are kept in 8 or 4 bits, not in {bits}")
        scale = values.abs().amax(-1, keepdim=True).clamp_min(_TINY) / 127
        return cls((values / scale).round().to(torch.int8), scale)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return both tensors, as they are written under `name`."""
        return {f"{name}s": self.codes[:], f"{name}_scale": self.scale[:]}

    def floats(self, chosen: slice | Tensor = slice(None)) -> Tensor:
        """Return the numbers of the `chosen` first-axis rows, float32."""
        return unpacked(self.codes[chosen]).float() * self.scale[chosen]


def lengths(rows: Bytes) -> list[int]:
    """Return how many rows lie in each of the files that `rows` come from."""
    return [len(part) for part in rows.codes.parts] if isinstance(rows.codes, Stack) else [len(rows.codes)]


def unpacked(codes: Tensor) -> Tensor:
    """Return `codes` as int8 a number: [..., n]."""
    if codes.dtype != torch.uint8:
        return codes
    both = codes.view(torch.int8)
    return torch.cat([(both << 4) >> 4, both >> 4], -1)


def _in_four(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes and scales of `values`, run by run those of the `_STEPS` whose direction is nearest."""
    if values.shape[-1] % 2:
        raise ValueError(f"two numbers share a byte: a run of {values.shape[-1]} does not")
    spread = values.square().mean(-1, keepdim=True).sqrt().clamp_min(_TINY)
    codes, nearest = torch.zeros_like(values, dtype=torch.int8), torch.full_like(spread, -1.0)
    scale = spread * _STEPS[0]
    for step in _STEPS:
        tried = (values / (spread * step)).round().clamp(-_TOP, _TOP)
        near = (tried * values).sum(-1, keepdim=True) / tried.norm(dim=-1, keepdim=True).clamp_min(1)
        better = near > nearest
        codes, scale = torch.where(better, tried.to(torch.int8), codes), torch.where(better, spread * step, scale)
        nearest = torch.maximum(near, nearest)
    low, high = codes.chunk(2, -1)
    return ((low & 15) | (high << 4)).view(torch.uint8), scale


@dataclass(frozen=True)
class Shard:
    """What the index keeps of some segments, in order.

    rows: projected gradients [n, k]; latents: [n, c, f]; mask: [n, f] uint8; song: position of each segment's song in
    the training set [n]; weight: how often training drew it, relatively [n]; starts, totals: the segment's begin and
    its song's length in seconds [n].
    """

    rows: Bytes
    latents: Bytes
    mask: Tensor | Stack
    song: Tensor
    weight: Tensor
    starts: Tensor
    totals: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by name, as they are written."""
        rest = {f.name: getattr(self, f.name)[:] for f in fields(self) if f.name not in ("rows", "latents")}
        return self.rows.tensors("row") | self.latents.tensors("latent") | rest

    @classmethod
    def from_tensors(cls, named: dict[str, Tensor]) -> "Shard":
        """Read what `tensors` gave."""
        rows, latents = (Bytes(named[name], named[scale]) for name, scale in _PACKED)
        return cls(rows, latents, *(named[f.name] for f in fields(cls)[2:]))

    @classmethod
    def stacked(cls, parts: Sequence[dict[str, Tensor]]) -> "Shard":
        """See the tensors of several files as one shard; what has many numbers a segment stays where it lies."""
        joined: dict[str, Any] = {}
        for name in parts[0]:
            every = [part[name] for part in parts]
            joined[name] = every[0] if len(every) == 1 else Stack(every) if name in _LARGE else torch.cat(every)
        return cls.from_tensors(joined)


_PACKED = (("rows", "row_scale"), ("latents", "latent_scale"))
_LARGE = ("rows", "latents", "latent_scale", "mask")


def compress_positive(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep non-negative numbers in a byte each: ten steps an octave down from the largest, 25 octaves.

    The relative error is at most 3.5 %; what is smaller still becomes zero.
    """
    packed: dict[str, Tensor] = {}
    for name, value in values.items():
        top = value.max().clamp_min(torch.finfo(torch.float32).tiny)
        code = (torch.log2(top / value.clamp_min(torch.finfo(torch.float32).tiny)) * _STEPS_AN_OCTAVE).round()
        packed[f"{name}/code"] = torch.where(value > 0, code.clamp(max=_ZERO), _ZERO).to(torch.uint8).cpu()
        packed[f"{name}/top"] = top.float().reshape(1).cpu()
    return packed


def expand_positive(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what `compress_positive` kept, float32."""
    values = {}
    for key, code in packed.items():
        if key.endswith("/code"):
            name = key.removesuffix("/code")
            size = packed[f"{name}/top"] * torch.exp2(-code.float() / _STEPS_AN_OCTAVE)
            values[name] = torch.where(code == _ZERO, 0.0, size)
    return values


def write(path: Path, tensors: dict[str, Tensor], recipe: str) -> None:
    """Write `tensors` to `path`, whole or not at all, with the fingerprint `recipe` of what made them."""
    put(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={"recipe": recipe}))


def recipe_of(path: Path) -> str | None:
    """Return the fingerprint of what the finished file `path` was made from; None where there is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("recipe")
    except (OSError, SafetensorError):
        return None


def is_made(path: Path, recipe: str) -> bool:
    """Say whether `path` holds a finished file made by `recipe`."""
    return recipe_of(path) == recipe


def read(path: Path, checksum: str | None = None) -> dict[str, Tensor]:
    """Map the tensors in `path` into memory. Raises IndexMismatch when it is absent, damaged or not of `checksum`."""
    try:
        if checksum is not None and file_digest(path) != checksum:
            raise IndexMismatch(f"{path} is not the file that the manifest lists")
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise IndexMismatch(f"{path} cannot be read: {error}") from error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: object) -> str:
    """Return the SHA-256 of tensors (dtype, shape and bytes) and of JSON-like values, in order."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            total.update(f"{part.dtype}{tuple(part.shape)}".encode())
            total.update(part.detach().cpu().contiguous().numpy().tobytes())
        else:
            total.update(json.dumps(part, sort_keys=True).encode())
        total.update(b"\0")
    return total.hexdigest()
