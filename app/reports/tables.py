"""Documents as tables: CSV whose cells no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import rfc8785

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings of a text that a spreadsheet may run."""
_SONG = ("id", "key", "title", "artist", "isrc", "iswc")
_NUMBERS = (
    *("score", "score_low", "score_high", "effect"),
    *("share", "share_low", "share_high", "background_percentile"),
)


class Number(str):
    """An exact number as text: a minus before it is no formula."""

    __slots__ = ()


def cell(value: Any) -> str:
    """A value as a cell holds it: numbers as documents write them, text so that it stays text, None empty."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Number):
        return f"'{value}" if value.lstrip(" ").startswith(FORMULA) else value
    return value if isinstance(value, Number) else rfc8785.dumps(value).decode()


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """CSV (RFC 4180, UTF-8) with a header."""
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow(columns)
    writer.writerows([cell(row.get(name)) for name in columns] for row in rows)
    return written.getvalue().encode()


def influences(report: Mapping[str, Any]) -> bytes:
    """A report's influences, best first, and a last row for what no song explains."""
    facts = {
        "attribution_id": report["attribution"]["id"],
        "ended_at": report["attribution"]["ended_at"],
        "model": report["model"]["name"],
        "index_digest": report["model"]["index_digest"],
    }
    columns = (*facts, "rank", *(f"song_{name}" for name in _SONG), *_NUMBERS)
    rest = facts | {"song_title": "unattributed", "share": report["result"]["unattributed"]}
    return table(columns, [*(facts | _row(each) for each in report["influences"]), rest])


def _row(influence: Mapping[str, Any]) -> dict[str, Any]:
    song = {f"song_{name}": influence["song"][name] for name in _SONG}
    return song | {name: influence[name] for name in ("rank", *_NUMBERS)}
