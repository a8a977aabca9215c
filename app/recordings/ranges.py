"""Which bytes of a recording a request asks for (RFC 9110, Range and If-Range), and what kind of audio they are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import ServiceError

_ONE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_LONGEST = 20
_FORM = "application/octet-stream"
_STARTS = (
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"FORM", "audio/aiff"),
    (b"RIFF", "audio/wav"),
    (b"RF64", "audio/wav"),
)


class RangeNotSatisfiable(ServiceError):
    """The bytes that are asked for lie behind the end."""

    status, type, title = 416, "range-not-satisfiable", "The recording has no such bytes"


@dataclass(frozen=True)
class Part:
    """Bytes `start` ≤ i < `end` of `size`."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        """As a header says it."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def part(header: str | None, size: int) -> Part | None:
    """Return the one range that a header asks for; None means all of it, for several ranges and for other units too.

    Raises RangeNotSatisfiable.
    """
    found = _ONE.fullmatch((header or "").replace(" ", ""))
    if found is None or any(len(number) > _LONGEST for number in found.groups()):
        return None
    first, last = found.groups()
    if not first:
        if not last:
            return None
        return _checked(Part(max(0, size - int(last)), size, size) if int(last) else Part(size, size, size))
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None
    return _checked(Part(int(first), end, size))


def media_type(start: bytes) -> str:
    """Return the type of a recording by its first bytes; unknown ones are nothing that a browser plays."""
    named = next((kind for mark, kind in _STARTS if start.startswith(mark)), None)
    if named is not None:
        return named
    framed = len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0  # an MPEG frame without a tag before it
    return "audio/mpeg" if framed else _FORM


def _checked(wanted: Part) -> Part:
    if wanted.start >= wanted.end:
        raise RangeNotSatisfiable(f"it has {wanted.size} bytes")
    return wanted
