"""How numbers and instants are written on a page."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

NOTHING = "–"
_MINUTE = 60


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in per cent; what is there but rounds to nothing says so."""
    if value is None:
        return NOTHING
    least = 0.5 * 10.0**-digits / 100
    if 0 < value < least:
        return f"< {10.0**-digits:.{digits}f} %"
    return f"{100 * value:.{digits}f} %"


def interval(low: float | None, high: float | None) -> str:
    """Two fractions in per cent, from the one to the other."""
    if low is None or high is None:
        return NOTHING
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A number of so many significant digits."""
    if value is None:
        return NOTHING
    if value and not 1e-4 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa} × 10{_raised(int(exponent))}"
    return f"{value:,.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"


def clock(seconds: float | None) -> str:
    """Seconds as minutes and seconds."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    return f"{whole // _MINUTE}:{whole % _MINUTE:02d}"


def moment(at: datetime | None) -> str:
    """An instant to the minute, in UTC."""
    return NOTHING if at is None else f"{at:%-d %b %Y, %H:%M} UTC"


def day(at: datetime | None) -> str:
    """The day of an instant, in UTC."""
    return NOTHING if at is None else f"{at:%-d %b %Y}"


def month(name: str) -> str:
    """A month that is called YYYY-MM."""
    return f"{date.fromisoformat(f'{name}-01'):%B %Y}"


def tracks(amount: str) -> str:
    """An exact amount of tracks, to four digits behind the point."""
    return f"{Decimal(amount):,.4f}"


def size(octets: int) -> str:
    """A number of bytes."""
    return f"{octets / 1e6:.1f} MB" if octets >= 1e6 else f"{max(octets / 1e3, 0.1):.1f} kB"


def short(digest: str | None) -> str:
    """The beginning of a digest."""
    return NOTHING if digest is None else digest[:12]


def _raised(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
