"""Ogg pages made by hand, so that a small file can hold hours."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SERIAL = 7
LONGEST_PACKET = b"\xfb\x30"
"""An Opus packet of 48 empty frames of 2.5 ms: 120 ms in two bytes."""
PACKET_SAMPLES = 5_760
PACKETS = 255


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


TABLE = _table()


def page(packets: list[bytes], granule: int, sequence: int, flags: int = 0) -> bytes:
    """Return one page with whole packets, each shorter than 255 bytes."""
    lengths = bytes(map(len, packets))
    head = struct.pack("<4sBBqII", b"OggS", 0, flags, granule, SERIAL, sequence)
    body = bytes([len(packets)]) + lengths + b"".join(packets)
    crc = 0
    for byte in head + bytes(4) + body:
        crc = (crc << 8 & 0xFFFFFFFF) ^ TABLE[crc >> 24 ^ byte]
    return head + struct.pack("<I", crc) + body


def opus(pages: int, channels: int = 2, last_granule: int | None = None) -> bytes:
    """Return an Opus stream of so many full pages, 30.6 s of silence each."""
    return b"".join(_pages(pages, channels, last_granule))


def _pages(pages: int, channels: int, last_granule: int | None) -> Iterator[bytes]:
    yield page([struct.pack("<8sBBHIhB", b"OpusHead", 1, channels, 0, 48_000, 0, 0)], 0, 0, 2)
    yield page([b"OpusTags" + struct.pack("<I", 4) + b"bomb" + struct.pack("<I", 0)], 0, 1)
    for number in range(1, pages + 1):
        granule = number * PACKETS * PACKET_SAMPLES
        last = number == pages
        if last and last_granule is not None:
            granule = last_granule
        yield page([LONGEST_PACKET] * PACKETS, granule, number + 1, 4 if last else 0)
