"""Exact amounts: whole numbers, UNIT of which are one track, in Python and in both databases.

What is smaller than a unit is cut off, never rounded up, so that parts never sum to more than their whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, case, cast, literal

from app.catalogue.rights import PARTS

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, SQLColumnExpression

UNIT = 10**12
PLACES = 12


def units(share: SQLColumnExpression[Any]) -> ColumnElement[int]:
    """A share of one track in units."""
    return _floor(share * float(UNIT))


def parts(share: SQLColumnExpression[Any]) -> ColumnElement[int]:
    """A right's share in parts, as `app.catalogue.rights.parts`."""
    return _floor(share * float(PARTS) + 0.001)


def portion(amount: ColumnElement[int], part: ColumnElement[int]) -> ColumnElement[int]:
    """Of an amount ≥ 0 what a right with so many parts has.

    In two steps, because a product of both does not fit into 64 bits, and SQLite would go on with a float.
    """
    whole, rest = amount // PARTS, amount % PARTS
    return whole * part + rest * part // PARTS


def decimal(amount: int) -> str:
    """An amount in tracks, exactly, as text with twelve places: JSON numbers are too coarse for sums."""
    sign, size = "-" if amount < 0 else "", abs(amount)
    return f"{sign}{size // UNIT}.{size % UNIT:0{PLACES}d}"


def fraction(part: int) -> str:
    """A right's share, exactly, as text with nine places."""
    return f"{part // PARTS}.{part % PARTS:09d}"


def _floor(value: SQLColumnExpression[Any]) -> ColumnElement[int]:
    """The whole part of a number ≥ 0; a cast cuts off on SQLite and rounds on Postgres, where rounding up is undone."""
    cut = cast(value, BigInteger)
    return cut - case((cut > value, literal(1)), else_=literal(0))
