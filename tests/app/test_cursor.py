"""Cursors: opaque, bound to their list, and never an excuse for a crash."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.cursor import decode, encode, page
from app.errors import BadCursor

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def _of(*parts):
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


@given(some.text(max_size=40).filter(lambda text: "\x00" not in text), some.integers(-(2**31) + 1, 2**31 - 1))
def test_a_position_comes_back(text, number):
    assert decode("list", encode("list", MOMENT, text, number), datetime, str, int) == (MOMENT, text, number)


@given(some.text(max_size=200))
def test_any_text_is_a_bad_cursor(text):
    with pytest.raises(BadCursor):
        decode("list", text, str)


@pytest.mark.parametrize(
    "cursor",
    [
        encode("another", "a"),
        encode("list", "a", "b"),
        encode("list", 1),
        _of("list", True),
        _of("list", None),
        _of("list", "nul\x00"),
        _of(),
        _of("list", ["nested"]),
        base64.urlsafe_b64encode(b"[" * 700).decode(),
        base64.urlsafe_b64encode(b'{"list": 1}').decode(),
        encode("list", "x" * 5000),
    ],
)
def test_a_forged_cursor_is_refused(cursor):
    with pytest.raises(BadCursor):
        decode("list", cursor, str)


@pytest.mark.parametrize("part", ["2026-01-01", "2026-01-01T00:00:00", "yesterday", 5, 2**40])
def test_an_instant_needs_a_zone_and_a_number_a_size(part):
    with pytest.raises(BadCursor):
        decode("list", _of("list", part), datetime)
    with pytest.raises(BadCursor):
        decode("list", _of("list", 2**31 if part == 5 else part), int)


def test_a_page_knows_whether_more_follows():
    assert page("abc", 3, str).next_cursor is None
    assert page("abcd", 3, str) == page("abcx", 3, str)
    assert page("abcd", 3, str).next_cursor == "c"
    assert page("", 3, str).items == ()
