"""The frozen draws of a grid, made once and kept on the device, and their bands of noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.noise import Drawn

if TYPE_CHECKING:
    from worker.attribution.noise import Grid
    from worker.attribution.types import Conditioning, Model, Params


class Draws(Drawn):
    """Draws made once that can be taken apart by their noise level."""

    @classmethod
    def of(cls, grid: Grid, shape: tuple[int, int], device: torch.device) -> Draws:
        """Make all draws of `grid` for segments of `shape` (c, f)."""
        return cls(grid.levels().to(device), grid.noise(shape).to(device))

    def subset(self, positions: range) -> Draws:
        """Return the draws at `positions`."""
        chosen = slice(positions.start, positions.stop, positions.step)
        return Draws(self.level[chosen], self.epsilon[chosen])

    def sorted(self) -> Draws:
        """Return the same draws from the least noise to the most."""
        order = self.level.argsort()
        return Draws(self.level[order], self.epsilon[order])

    def bands(self, count: int) -> list[Draws]:
        """Return `count` bands of equally many draws from the least noise to the most: their mean is the whole.

        Raises ValueError where the draws do not divide.
        """
        if self.draws % count:
            raise ValueError(f"{self.draws} draws do not make {count} equal bands")
        ordered, size = self.sorted(), self.draws // count
        return [ordered.subset(range(at, at + size)) for at in range(0, self.draws, size)]


@dataclass(frozen=True)
class Autocast:
    """A model whose forward and backward passes multiply in bfloat16; weights, sums and gradients stay float32.

    On a trained denoiser the gradients of squared outputs come out within 1 %, those of the loss, whose residuals are
    small, only within 7 %.
    """

    model: Model

    @property
    def module(self) -> torch.nn.Module:
        """The denoiser."""
        return self.model.module

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.model.device

    def params(self, pattern: str) -> Params:
        """Return the float32 weights whose name matches `pattern`."""
        return self.model.params(pattern)

    def output(self, params: Params, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        """Return the v-prediction [b, c, f] in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            return self.model.output(params, noisy, level, cond).float()
