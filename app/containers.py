"""What the bytes of an audio file say about its length, read without a decoder.

The decoding library shortens some announcements to what is there, and guesses others; here they are taken literally.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

STREAMED = {0, 0xFFFFFFFF}
"""Sizes that a writer leaves which never learnt the length."""
PLAIN = {1, 3, 0xFFFE}
"""WAV encodings whose frames all have the same size."""
OGG_PAGE_BYTES = 65_307
MOST_STEPS = 200_000
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
KILOBITS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class Announced:
    """How long a file says that it is.

    frames: where it says so itself; library: whether the decoding library's count may be believed instead;
    whole: False when the file visibly stops too early.
    """

    frames: int | None = None
    library: bool = True
    whole: bool = True


def announced(path: Path) -> Announced:
    """What the file says of its length; of one in no known form, nothing."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        start = raw.read(12)
        if start[:4] == b"RIFF":
            return _riff(raw)
        if start[:4] == b"FORM":
            return _aiff(raw)
        if start[:4] == b"OggS":
            return Announced(whole=_ogg_ends(raw, size))
        if start[:3] == b"ID3" or (start[:1] == b"\xff" and len(start) > 1 and start[1] & 0xE0 == 0xE0):
            return _mp3(raw, size)
    return Announced()


def _chunks(raw: BinaryIO, order: str) -> dict[bytes, tuple[int, bytes]]:
    """Declared size and first bytes of each chunk of a RIFF ("<") or FORM (">") file, up to its audio."""
    found: dict[bytes, tuple[int, bytes]] = {}
    raw.seek(12)
    for _ in range(MOST_STEPS):
        head = raw.read(8)
        if len(head) < 8:
            break
        name, size = struct.unpack(f"{order}4sI", head)
        found[name] = size, raw.read(min(size, 40))
        if name in {b"data", b"SSND"}:
            break
        raw.seek(size + size % 2 - min(size, 40), 1)
    return found


def _riff(raw: BinaryIO) -> Announced:
    found = _chunks(raw, "<")
    size = found.get(b"data", (0, b""))[0]
    form = found.get(b"fmt ", (0, b""))[1][:16].ljust(16, b"\0")
    kind, channels, _, _, _, bits = struct.unpack("<HHIIHH", form)
    if size in STREAMED:
        return Announced(library=False)
    if kind not in PLAIN or not channels or not bits:
        return Announced()
    return Announced(frames=size // (channels * -(-bits // 8)))


def _aiff(raw: BinaryIO) -> Announced:
    common = _chunks(raw, ">").get(b"COMM", (0, b""))[1]
    return Announced(frames=struct.unpack(">I", common[2:6])[0]) if len(common) >= 6 else Announced()


def _ogg_ends(raw: BinaryIO, size: int) -> bool:
    """Whether the last page is whole and says that it is the last."""
    raw.seek(max(0, size - OGG_PAGE_BYTES))
    tail = raw.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    return bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _mp3(raw: BinaryIO, size: int) -> Announced:
    """From frame to frame: the last one has to be whole. Without a count in the first, the library only guesses."""
    raw.seek(0)
    head = raw.read(10)
    position = 0
    if head[:3] == b"ID3" and len(head) == 10:
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    raw.seek(position)
    first = raw.read(1_500)
    counted = any(name in first for name in (b"Xing", b"Info", b"VBRI"))
    for _ in range(MOST_STEPS):
        raw.seek(position)
        step = _mp3_frame_bytes(raw.read(4))
        if step is None:
            break
        position += step
    return Announced(library=counted, whole=position <= size)


def _mp3_frame_bytes(header: bytes) -> int | None:
    """The size of the layer III frame with this header; None where there is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in {0, 15} or rate == 3:
        return None
    kilobits = KILOBITS[3 if version == 3 else 2][bitrate - 1]
    return (144_000 if version == 3 else 72_000) * kilobits // RATES[version][rate] + (header[2] >> 1 & 1)
