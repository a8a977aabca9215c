"""Which seconds of the track match which seconds of which song: where the marks lie, and how strong they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.attributions.influence_schemas import InfluenceRow, Match

LEVELS = 5


@dataclass(frozen=True)
class Line:
    """A row of a ranking, with what only a page needs: whether the song can be heard here, and how long it is."""

    row: InfluenceRow
    held: bool
    seconds: float | None


@dataclass(frozen=True)
class Mark:
    """A match: where it lies on the track and on the song (begin and width in per cent), and its strength, 1 to 5."""

    match: Match
    track: tuple[float, float]
    song: tuple[float, float]
    level: int


@dataclass(frozen=True)
class HeatRow:
    """A song's marks: on the track the strongest of each section, on the song all of them; seconds: the song's length.

    `seconds` is at least as long as its last match.
    """

    line: Line
    sections: tuple[Mark, ...]
    marks: tuple[Mark, ...]
    seconds: float


def heat(lines: Sequence[Line], seconds: float) -> list[HeatRow]:
    """Lay out the matches of songs along a track of so many seconds; songs without any are left out."""
    scores = [match.score for line in lines for match in line.row.matches]
    strongest = max(scores, default=0.0)
    return [_row(line, seconds, strongest) for line in lines if line.row.matches]


def _row(line: Line, seconds: float, strongest: float) -> HeatRow:
    last = max(match.song_start_s + match.seconds for match in line.row.matches)
    length = max(line.seconds or 0.0, last)
    ordered = sorted(line.row.matches, key=lambda match: -match.score)
    marks = tuple(
        Mark(
            match,
            _placed(match.track_start_s, match.seconds, seconds),
            _placed(match.song_start_s, match.seconds, length),
            _level(match.score, strongest),
        )
        for match in ordered
    )
    best = {mark.match.track_start_s: mark for mark in reversed(marks)}
    return HeatRow(line, tuple(best[start] for start in sorted(best)), marks, length)


def _placed(start: float, length: float, whole: float) -> tuple[float, float]:
    begin = min(start / whole, 1.0) if whole else 0.0
    return round(100 * begin, 3), round(100 * min(length / whole if whole else 1.0, 1.0 - begin), 3)


def _level(score: float, strongest: float) -> int:
    if strongest <= 0 or score <= 0:
        return 1
    return max(1, min(LEVELS, 1 + int(LEVELS * score / strongest - 1e-9)))
