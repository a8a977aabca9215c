"""The nouns of the science: weights, conditioning, segments and the model that they meet in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
Selector = slice | Tensor
Progress = Callable[[float], None]


def silent(fraction: float) -> None:
    """Ignore the progress `fraction` in (0, 1]; what long loops call when nobody listens."""


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told beside the noisy latents.

    cross: cross-attention tokens [s, k, d]; mask: which of them are real [s, k] bool;
    globals_: tokens put in front of the latents [s, g, d] (timing in Stable Audio, arXiv 2402.04825).
    """

    cross: Tensor
    mask: Tensor
    globals_: Tensor

    def __post_init__(self) -> None:
        if self.cross.ndim != 3 or self.globals_.ndim != 3:
            raise ValueError(f"tokens are [s, k, d]: got {tuple(self.cross.shape)} and {tuple(self.globals_.shape)}")
        if self.mask.shape != self.cross.shape[:2]:
            raise ValueError(f"token mask {tuple(self.mask.shape)} does not fit tokens {tuple(self.cross.shape)}")
        if len(self.globals_) != len(self.cross):
            raise ValueError(f"{len(self.cross)} rows of tokens but {len(self.globals_)} of global tokens")

    def __len__(self) -> int:
        return len(self.cross)

    def __getitem__(self, chosen: Selector) -> Conditioning:
        return Conditioning(self.cross[chosen], self.mask[chosen], self.globals_[chosen])

    def to(self, device: torch.device) -> Conditioning:
        """Return the same conditioning on `device`."""
        return Conditioning(self.cross.to(device), self.mask.to(device), self.globals_.to(device))

    def repeat(self, times: int) -> Conditioning:
        """Repeat every segment `times` times in a row: [s, ...] becomes [s * times, ...]."""
        return Conditioning(*(x.repeat_interleave(times, 0) for x in (self.cross, self.mask, self.globals_)))

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Join along the segment axis."""
        return Conditioning(*(torch.cat([getattr(p, n) for p in parts]) for n in ("cross", "mask", "globals_")))


@dataclass(frozen=True)
class Segments:
    """Fixed-length windows of audio as the denoiser sees them.

    latents: [s, c, f] float32; mask: [s, f], 1 where there is music and 0 in padding; cond: one row a segment.
    """

    latents: Tensor
    mask: Tensor
    cond: Conditioning

    def __post_init__(self) -> None:
        if self.latents.ndim != 3 or not self.latents.is_floating_point():
            raise ValueError(f"latents are [s, c, f] floats: got {tuple(self.latents.shape)} {self.latents.dtype}")
        if self.mask.shape != (self.latents.shape[0], self.latents.shape[2]):
            raise ValueError(f"mask {tuple(self.mask.shape)} does not fit latents {tuple(self.latents.shape)}")
        if len(self.cond) != len(self.latents):
            raise ValueError(f"{len(self.latents)} segments but {len(self.cond)} rows of conditioning")

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, chosen: Selector) -> Segments:
        return Segments(self.latents[chosen], self.mask[chosen], self.cond[chosen])

    @property
    def music(self) -> Tensor:
        """Count the unmasked frames of every segment: [s] float32, the weight of a segment within its track."""
        return self.mask.to(torch.float32).sum(1)

    def to(self, device: torch.device) -> Segments:
        """Return the same segments on `device`."""
        return Segments(self.latents.to(device), self.mask.to(device), self.cond.to(device))

    @staticmethod
    def cat(parts: Sequence[Segments]) -> Segments:
        """Join along the segment axis."""
        return Segments(
            torch.cat([p.latents for p in parts]),
            torch.cat([p.mask for p in parts]),
            Conditioning.cat([p.cond for p in parts]),
        )


class Model(Protocol):
    """A denoiser whose weights are an argument; the resident weights are never changed."""

    module: torch.nn.Module
    device: torch.device

    def params(self, pattern: str) -> Params:
        """Return the float32 weights whose name matches the regular expression `pattern`, detached."""
        ...

    def output(self, params: Params, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        """Return the v-prediction [b, c, f] for `noisy` [b, c, f] at noise levels `level` [b] in (0, 1).

        `params` replace the module's own weights by name for this call; with none the module itself is called, so
        that hooks on it see the call.
        """
        ...
