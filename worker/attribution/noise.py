"""The frozen grid of (t, ε): which noise every song and every query is measured with.

A draw d has one noise level t_d and one noise tensor ε_d, pure functions of (seed, d). Songs and queries meet the same
draws, so that differences between them are differences of music and not of luck; two grids of other seeds are
independent (the truth is measured on another grid).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

WORD = 1 << 64
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd: the Weyl sequence of lowest discrepancy
FRACTION = 23  # bits kept of a level, so that its midpoint is exact and below 1 in float32 too


def counter(seed: int, stream: int) -> np.random.Philox:
    """Return the counter-based generator with key (seed, stream): Philox-4x64, Salmon et al., SC 2011."""
    return np.random.Philox(key=np.array([seed % WORD, stream % WORD], dtype=np.uint64))


@dataclass(frozen=True)
class Grid:
    """Draws `first`, `first + step`, … of the endless grid named by `seed`.

    Raises ValueError for a negative seed or first draw, no draws, or a step below 1.
    """

    seed: int
    draws: int
    first: int = 0
    step: int = 1

    def __post_init__(self) -> None:
        if self.seed < 0 or self.first < 0 or self.draws < 1 or self.step < 1:
            raise ValueError(f"a grid needs seed and first >= 0, draws and step >= 1: got {self}")

    @property
    def indices(self) -> range:
        """The draws' numbers in the endless grid."""
        return range(self.first, self.first + self.draws * self.step, self.step)

    def levels(self) -> Tensor:
        """Return the noise levels t_d = frac(u + (d + 1)/φ) in (0, 1): [draws] float64, u a hash of the seed."""
        offset = int(counter(self.seed, WORD - 1).random_raw())
        words = [(offset + (draw + 1) * GOLDEN) % WORD for draw in self.indices]
        return torch.tensor([((word >> (64 - FRACTION)) + 0.5) / 2**FRACTION for word in words], dtype=torch.float64)

    def noise(self, shape: tuple[int, int]) -> Tensor:
        """Return ε_d ~ N(0, I) of every draw on the CPU: [draws, c, f] float32 for `shape` (c, f)."""
        return torch.from_numpy(np.stack([_normal(self.seed, draw, shape) for draw in self.indices]))

    def subset(self, positions: range) -> Grid:
        """Return the draws at `positions` of this grid; raises ValueError where they leave it."""
        if not len(positions) or positions[0] < 0 or positions.step < 1 or positions[-1] >= self.draws:
            raise ValueError(f"positions {positions} are not within a grid of {self.draws} draws")
        first = self.first + positions[0] * self.step
        return Grid(self.seed, len(positions), first, self.step * positions.step)

    def parts(self, count: int) -> tuple[Grid, ...]:
        """Return `count` interleaved sets of draws, equally many in each; raises ValueError where that is not so."""
        if count < 1 or self.draws % count:
            raise ValueError(f"{self.draws} draws do not make {count} equal parts")
        return tuple(self.subset(range(first, self.draws, count)) for first in range(count))


@dataclass(frozen=True, eq=False)
class Drawn:
    """Draws already made, on the device that needs them: level [d] float64, epsilon [d, c, f]; stands for a `Grid`."""

    level: Tensor
    epsilon: Tensor

    @property
    def draws(self) -> int:
        """How many there are."""
        return len(self.level)

    def levels(self) -> Tensor:
        """Return the noise levels: [d]."""
        return self.level

    def noise(self, shape: tuple[int, int]) -> Tensor:
        """Return the noise [d, c, f]; raises ValueError for a shape that it was not made for."""
        if tuple(self.epsilon.shape[1:]) != tuple(shape):
            raise ValueError(f"these draws are of shape {list(self.epsilon.shape[1:])}, not {list(shape)}")
        return self.epsilon

    def __getitem__(self, chosen: slice) -> Drawn:
        return Drawn(self.level[chosen], self.epsilon[chosen])


@lru_cache(maxsize=4)
def drawn(grid: Grid, shape: tuple[int, int], device: torch.device, groups: int = 1) -> Drawn:
    """Return the draws of `grid` for segments of `shape` (c, f), made once and kept on `device`.

    With `groups`, the parts `Grid.parts` one after another instead of interleaved; raises ValueError as that does.
    """
    parts = grid.parts(groups)
    level = torch.cat([part.levels() for part in parts])
    return Drawn(level.to(device), torch.cat([part.noise(shape) for part in parts]).to(device))


@lru_cache(maxsize=128)
def _normal(seed: int, draw: int, shape: tuple[int, int]) -> np.ndarray:
    # RandomState's streams are frozen for ever, Generator's may change between numpy releases: an index outlives those.
    values = np.random.RandomState(counter(seed, draw)).standard_normal(shape).astype(np.float32)
    values.setflags(write=False)
    return values
