"""Where the marks of a chart begin and end, in per cent of its width or height; the templates draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
MOST_TICKS = 5
APART = 0.004
PIECES = 9


@dataclass(frozen=True)
class Axis:
    """An axis from 0 to `top`, with `ticks` on it (fractions of the whole, as shares are)."""

    top: float
    ticks: tuple[float, ...]

    @classmethod
    def to(cls, highest: float) -> Axis:
        """Return the tightest axis of round steps that holds `highest`, at most 1."""
        wanted = min(max(highest, STEPS[0]), 1.0)
        step = next((each for each in STEPS if wanted / each <= MOST_TICKS), STEPS[-1])
        count = -int(-(wanted / step - 1e-9) // 1)
        return cls(count * step, tuple(round(step * place, 6) for place in range(count + 1)))

    def at(self, value: float | None) -> float:
        """Return where a value lies, in per cent."""
        return round(100 * min(max(value or 0.0, 0.0) / self.top, 1.0), 3)


@dataclass(frozen=True)
class Piece:
    """A part of a whole: where it begins and how wide it is, in per cent; what it is; its shade, 0 the strongest."""

    start: float
    width: float
    label: str
    share: float
    shade: int


def pieces(named: Sequence[tuple[str, float]], unattributed: float) -> list[Piece]:
    """Lay shares side by side, the small ones together; what is left stays free at the end."""
    apart = [(label, share) for label, share in named if share >= APART][:PIECES]
    others = max(0.0, 1.0 - unattributed - sum(share for _, share in apart))
    count = len(named) - len(apart)
    if others >= APART / 4 and count:
        apart.append((f"{count} more songs", others))
    laid, start = [], 0.0
    for shade, (label, share) in enumerate(apart):
        laid.append(Piece(round(100 * start, 3), round(100 * share, 3), label, share, min(shade, PIECES - 1)))
        start += share
    return laid


@dataclass(frozen=True)
class Ticks:
    """Instants along a recording of so many seconds: where each is, in per cent, and what it says."""

    places: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, seconds: float) -> Ticks:
        """Return a handful of round instants."""
        steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200)
        step = next((each for each in steps if seconds / each <= MOST_TICKS + 1), steps[-1])
        marks = [float(step * place) for place in range(int(seconds // step) + 1)]
        return cls(tuple((round(100 * mark / seconds, 3), mark) for mark in marks if mark < 0.97 * seconds))
