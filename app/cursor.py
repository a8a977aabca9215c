"""Opaque keyset cursors: where a page ended, as base64url JSON that only the list it came from accepts."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from app.errors import BadCursor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
LONGEST = 1_000
PAGE_ROWS = 20
"""Rows of a page whose caller does not say how many."""


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Some rows of a list, and the cursor of the rows after them (None at the end)."""

    items: tuple[Item, ...]
    next_cursor: str | None


def encode(scope: str, *position: str | int | datetime) -> str:
    """The cursor of the rows after `position` in the list called `scope`."""
    plain = [part.isoformat() if isinstance(part, datetime) else part for part in position]
    text = json.dumps([scope, *plain], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(scope: str, cursor: str, *kinds: type) -> tuple[Any, ...]:
    """The position in a cursor of `scope`, one value per kind: str, int or datetime; raises BadCursor on other text."""
    try:
        if len(cursor) > LONGEST:
            raise BadCursor
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found, *position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if found != scope or len(position) != len(kinds):
            raise BadCursor
        return tuple(_value(part, kind) for part, kind in zip(position, kinds, strict=True))
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise BadCursor from error


def _value(part: Any, kind: type) -> Any:
    if kind is datetime and isinstance(part, str):
        moment = datetime.fromisoformat(part)
        if moment.tzinfo is None:
            raise BadCursor
        return moment
    if kind is int and type(part) is int and abs(part) < 2**31:
        return part
    if kind is str and isinstance(part, str) and "\x00" not in part:
        return part
    raise BadCursor


def page(rows: Sequence[Item], limit: int, cursor_of: Callable[[Item], str]) -> Page[Item]:
    """The first `limit` of `rows`, which were read with one row more to learn whether there is a next page."""
    shown = tuple(rows[:limit])
    return Page(shown, cursor_of(shown[-1]) if len(rows) > limit else None)
