"""A song's history as bars over time: one a track while there are few, else one a day, a week or a month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from app.pages import formats
from app.pages.charts import Axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.catalogue.history import Point
    from app.catalogue.schemas import Bucket, HistoryRow

Step = Literal["track", "day", "week", "month"]
STEPS: tuple[Step, ...] = ("track", "day", "week", "month")
MOST_BARS = 120
MOST_LABELS = 6
THIN = 0.62
"""Part of a bar's place that it fills."""


@dataclass(frozen=True)
class Bar:
    """A bar: begin, width and height in per cent; whiskers from `low` to `high`, where there are; what it says."""

    start: float
    width: float
    height: float
    low: float | None
    high: float | None
    label: str
    told: str
    link: str | None = None

    @property
    def middle(self) -> float:
        """Where its whiskers stand."""
        return round(self.start + self.width / 2, 3)


@dataclass(frozen=True)
class Timeline:
    """Bars of shares over an axis; `labelled` are those that carry a label; `cut`: earlier ones are left out."""

    bars: tuple[Bar, ...]
    axis: Axis
    labelled: tuple[Bar, ...]
    cut: bool

    @classmethod
    def of(cls, bars: Sequence[Bar], axis: Axis, *, cut: bool) -> Timeline:
        """Return a timeline whose labels do not touch."""
        every = -(-len(bars) // MOST_LABELS) or 1
        return cls(tuple(bars), axis, tuple(bars[::every]), cut)


def of_tracks(rows: Sequence[HistoryRow], *, cut: bool) -> Timeline:
    """Return a bar with whiskers for each track, the oldest first; `rows` come newest first."""
    ordered = rows[::-1]
    axis = Axis.to(max((row.share_high or row.share for row in ordered), default=0.0))
    bars = []
    for place, row in enumerate(ordered):
        name = row.attribution.filename or row.attribution.external_id or row.attribution.id
        told = f"{name}, {formats.moment(row.at)}: {formats.percent(row.share)}"
        low, high = (None if each is None else 100 - axis.at(each) for each in (row.share_low, row.share_high))
        start, width = _place(place, len(ordered))
        link = f"/attributions/{row.attribution.id}"
        bars.append(Bar(start, width, axis.at(row.share), low, high, f"{row.at:%-d %b, %H:%M}", told, link))
    return Timeline.of(bars, axis, cut=cut)


def of_points(points: Sequence[Point], bucket: Bucket) -> Timeline:
    """Return a bar for each bucket from the first to the last, empty ones included: the sum of shares."""
    found = {point.start: point for point in points}
    starts = _starts(points[0].start, points[-1].start, bucket) if points else []
    shown = starts[-MOST_BARS:]
    axis = Axis.to(1.0) if not points else _sums(max(point.share_sum for point in points))
    bars = []
    for place, start in enumerate(shown):
        point = found.get(start)
        total, count = (point.share_sum, point.attributions) if point else (0.0, 0)
        told = (
            f"{_named(start, bucket)}: {count} {'track' if count == 1 else 'tracks'}, shares {formats.percent(total)}"
        )
        bars.append(Bar(*_place(place, len(shown)), axis.at(total), None, None, _named(start, bucket), told))
    return Timeline.of(bars, axis, cut=len(starts) > len(shown))


def _place(place: int, count: int) -> tuple[float, float]:
    """Where a bar begins and how wide it is; a few bars are not as wide as the whole chart."""
    room = 100 / max(count, 8)
    return round(room * (place + (1 - THIN) / 2), 3), round(room * THIN, 3)


def _sums(highest: float) -> Axis:
    """An axis of sums, which may exceed a whole."""
    if highest <= 1:
        return Axis.to(highest)
    step = next(each for each in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 1e4, 1e5, 1e9) if highest / each <= 5)
    count = -int(-(highest / step) // 1)
    return Axis(count * step, tuple(step * place for place in range(count + 1)))


def _starts(first: date, last: date, bucket: Bucket) -> list[date]:
    starts = [first]
    while starts[-1] < last:
        starts.append(_next(starts[-1], bucket))
    return starts


def _next(start: date, bucket: Bucket) -> date:
    if bucket == "month":
        return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
    return start + timedelta(days=1 if bucket == "day" else 7)


def _named(start: date, bucket: Bucket) -> str:
    if bucket == "month":
        return f"{start:%b %Y}"
    return f"{start:%-d %b}" if bucket == "day" else f"week of {start:%-d %b}"
