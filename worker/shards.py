"""Files of an index: tensors in a byte or less a number, written whole or not at all, verified when read."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from worker.manifest import IndexMismatch

_STEPS_AN_OCTAVE = 10.0
_ZERO = 255


@dataclass(frozen=True)
class Bytes:
    """Numbers [..., n] in one signed byte each, with one scale for every run of n: `codes * scale` gives them back."""

    codes: Tensor
    scale: Tensor

    @classmethod
    def of(cls, values: Tensor) -> "Bytes":
        """Round `values` [..., n] to 255 levels between -m and m, m the largest magnitude in the run."""
        values = values.detach().float().cpu()
        scale = values.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
        return cls((values / scale).round().to(torch.int8), scale)

    def floats(self, chosen: slice | Tensor = slice(None)) -> Tensor:
        """Return the numbers of the `chosen` first-axis rows, float32."""
        return self.codes[chosen].float() * self.scale[chosen]


@dataclass(frozen=True)
class Shard:
    """What the index keeps of some segments, in order.

    rows: projected gradients [n, k]; latents: [n, c, f]; mask: [n, f] uint8; song: position of each segment's song in
    the training set [n]; weight: how often training drew it, relatively [n]; starts, totals: the segment's begin and
    its song's length in seconds [n].
    """

    rows: Bytes
    latents: Bytes
    mask: Tensor
    song: Tensor
    weight: Tensor
    starts: Tensor
    totals: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by name, as they are written."""
        named = {"rows": self.rows.codes, "row_scale": self.rows.scale}
        named |= {"latents": self.latents.codes, "latent_scale": self.latents.scale}
        return named | {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("rows", "latents")}

    @classmethod
    def from_tensors(cls, named: dict[str, Tensor]) -> "Shard":
        """Read what `tensors` gave."""
        rows = Bytes(named.pop("rows"), named.pop("row_scale"))
        return cls(rows=rows, latents=Bytes(named.pop("latents"), named.pop("latent_scale")), **named)

    @classmethod
    def cat(cls, parts: list["Shard"]) -> "Shard":
        """Join along the segment axis."""
        every = [part.tensors() for part in parts]
        return cls.from_tensors({name: torch.cat([t[name] for t in every]) for name in every[0]})


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
    partial = path.with_suffix(".partial")
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    partial.write_bytes(save(contiguous, metadata={"recipe": recipe}))
    partial.replace(path)


def is_made(path: Path, recipe: str) -> bool:
    """Say whether `path` holds a finished file made by `recipe`."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("recipe") == recipe
    except (OSError, SafetensorError):
        return False


def read(path: Path, checksum: str | None = None) -> dict[str, Tensor]:
    """Read the tensors in `path`. Raises IndexMismatch when it is absent, damaged or not of `checksum`."""
    try:
        if checksum is not None and file_digest(path) != checksum:
            raise IndexMismatch(f"{path} is not the file that the manifest lists")
        return dict(load_file(path))
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
