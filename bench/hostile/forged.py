"""Files that lie: forged headers, bombs, loops, files that are two things at once."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Iterator
from itertools import chain, product

import numpy as np

from bench.hostile import ogg, seeds
from tests.app.sounds import encode, flac_with_length, wav_header

PCM = (seeds.sound()[:, 0] * 32_767).astype("<i2").tobytes()
EXTREMES = (0, 1, 2, 0x7FFF, 0x8000, 0xFFFF)
WIDE = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
TAGS = (0, 1, 2, 3, 6, 7, 0x11, 0x31, 0x50, 0x55, 0xFF, 0x674F, 0xF1AC, 0xFFFE, 0xFFFF)
MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"OggS", b"fLaC", b"ID3", b"\xff\xfb", b".snd", b"caff", b"Crea")

Named = Iterator[tuple[str, bytes]]


def corpus() -> dict[str, bytes]:
    """Return every forged file by name."""
    return dict(chain(wav(), chunks(), aiff(), flac(), mp3(), opus(), values(), others(), cut()))


def riff(*parts: tuple[bytes, bytes], size: int | None = None, form: bytes = b"WAVE") -> bytes:
    """Return a RIFF file of these chunks, announced as so long."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4 if size is None else size) + form + body


def fmt(tag: int = 1, channels: int = 1, rate: int = seeds.RATE, align: int = 2, bits: int = 16) -> bytes:
    """Return what a `fmt ` chunk holds."""
    return struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)


def wav() -> Named:
    """WAVs whose format chunk lies."""
    for channels in EXTREMES:
        yield f"wav of {channels} channels", riff((b"fmt ", fmt(channels=channels)), (b"data", PCM))
    for rate in (*WIDE, 7_999, 192_001):
        yield f"wav at {rate} Hz", riff((b"fmt ", fmt(rate=rate)), (b"data", PCM))
    for bits in (0, 1, 7, 9, 17, 33, 64, 255, 65_535):
        yield f"wav of {bits} bits", riff((b"fmt ", fmt(bits=bits)), (b"data", PCM))
    for tag, align in product(TAGS, (0, 1, 256, 65_535)):
        extra = struct.pack("<HHH", 4, 0, 0)
        yield (
            f"wav of kind {tag:#x} in blocks of {align}",
            riff((b"fmt ", fmt(tag, align=align) + extra), (b"data", PCM)),
        )
    for size in WIDE:
        yield f"wav that announces {size} bytes", wav_header(8_000, 1, size) + PCM
        yield f"wav in a file of {size} bytes", riff((b"fmt ", fmt()), (b"data", PCM), size=size)
    for size in range(0, 48, 4):
        yield f"wav with a format of {size} bytes", riff((b"fmt ", (fmt() * 3)[:size]), (b"data", PCM))
    yield "44 bytes", wav_header(8_000, 1, 0)
    yield "44 bytes that announce an hour", wav_header(8_000, 1, 57_600_000)


def chunks() -> Named:
    """Chunks that repeat, nest, overlap, or lead back."""
    yield "100000 empty chunks", riff((b"fmt ", fmt()), *[(b"junk", b"")] * 100_000, (b"data", PCM))
    yield "100000 chunks of no name", riff(*[(bytes(4), b"")] * 100_000)
    yield "lists in lists", riff((b"fmt ", fmt()), (b"LIST", b"INFO" + b"LIST\x08\0\0\0INFO" * 5_000), (b"data", PCM))
    yield "two formats", riff((b"fmt ", fmt()), (b"fmt ", fmt(channels=65_535, rate=1)), (b"data", PCM))
    yield "two sounds", riff((b"fmt ", fmt()), (b"data", PCM), (b"data", PCM * 3))
    yield "sound before format", riff((b"data", PCM), (b"fmt ", fmt()))
    yield "sound without format", riff((b"data", PCM))
    yield "format without sound", riff((b"fmt ", fmt()))
    for name in (b"LIST", b"bext", b"cue ", b"smpl", b"fact", b"PEAK", b"cart", b"JUNK", b"inst", b"acid", b"ds64"):
        for size in (0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFF):
            part = name + struct.pack("<I", size) + b"\xff" * 64
            whole = riff((b"fmt ", fmt()))
            yield f"chunk {name.decode()} of {size} bytes", whole + part + b"data" + struct.pack("<I", len(PCM)) + PCM
    for kind in ("RF64", "W64"):
        data = next(each for name, each in seeds.files().items() if name.startswith(kind))
        for place, value in product(range(4, 60, 4), (0, 0xFFFFFFFF)):
            yield f"{kind} with {value:#x} at {place}", data[:place] + struct.pack("<I", value) + data[place + 4 :]


def aiff() -> Named:
    """AIFFs with odd sizes and rates that are no numbers."""
    good = seeds.files()["AIFF PCM_16"]
    common = good.index(b"COMM") + 8
    rates = (bytes(10), b"\x7f\xff" + bytes(8), b"\xff" * 10, b"\x40\x0e" + b"\xff" * 8, b"\x7f\xfe" + b"\xff" * 8)
    for rate in rates:
        yield f"aiff at the rate {rate.hex()}", good[: common + 8] + rate + good[common + 18 :]
    for value in EXTREMES:
        yield f"aiff of {value} channels", good[:common] + struct.pack(">H", value) + good[common + 2 :]
        yield f"aiff of {value} bits", good[: common + 6] + struct.pack(">H", value) + good[common + 8 :]
    for value, name in product(WIDE, (b"COMM", b"SSND", b"FORM")):
        at = good.index(name) + 4
        yield f"aiff with {name.decode()} of {value} bytes", good[:at] + struct.pack(">I", value) + good[at + 4 :]
    for offset in WIDE:
        at = good.index(b"SSND") + 8
        yield f"aiff whose sound begins at {offset}", good[:at] + struct.pack(">I", offset) + good[at + 4 :]
    for name in (b"MARK", b"INST", b"COMT", b"ID3 ", b"basc"):
        yield f"aiff with an odd {name.decode()}", good[:12] + name + struct.pack(">I", 7) + b"\xff" * 7 + good[12:]


def flac() -> Named:
    """FLACs that say too much, too little, or nothing, and one that is far longer than it is large."""
    good = seeds.files()["FLAC PCM_16"]
    for frames in (0, 1, 2**31, 2**36 - 1):
        yield f"flac of {frames} frames", flac_with_length(good, frames)
    for place, value in product(range(8, 26), (0, 0xFF)):
        yield f"flac with {value:#x} at {place}", good[:place] + bytes([value]) + good[place + 1 :]
    for kind, size in product((1, 4, 6, 126, 127), (0, 0xFFFFFF)):
        block = bytes([kind]) + size.to_bytes(3, "big")
        yield f"flac with a block {kind} of {size} bytes", good[:42] + block + good[42:]
    silence = encode(np.zeros((900 * 8_000, 1), dtype=np.int16), 8_000, "FLAC")
    yield "flac of a quarter of an hour of silence", silence
    yield "flac of silence that does not say how long", flac_with_length(silence, 0)


def mp3() -> Named:
    """MP3s with a lying Xing header, and tags as large as they can be announced."""
    good = seeds.files()["MP3 stereo"]
    for name in (b"Xing", b"Info"):
        at = good.find(name)
        for value in WIDE if at >= 0 else ():
            lying = good[: at + 8] + struct.pack(">II", value, value) + good[at + 16 :]
            yield f"mp3 whose {name.decode()} says {value}", lying
    for size in (b"\0\0\0\0", b"\x7f\x7f\x7f\x7f", b"\xff\xff\xff\xff", b"\0\0\x7f\x7f"):
        yield f"mp3 after a tag of {size.hex()}", b"ID3\x04\0\0" + size + good
    picture = b"APIC" + struct.pack(">I", 2**21) + b"\0\0" + bytes(2**21)
    size = len(picture)
    syncsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    yield "mp3 with a picture of two megabytes", b"ID3\x04\0\0" + syncsafe + picture + good
    for index in range(256):
        if index % 5 == 0:
            yield f"mp3 frame {index:#x}", bytes([0xFF, 0xE0 | index & 0x1F, index, index ^ 0xC0]) * 2_000
    yield "mp3 of a tag in a tag", (b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)) * 2_000 + good


def opus() -> Named:
    """Hours of Opus in a small file."""
    yield "opus of twenty minutes in 32 kB", ogg.opus(40)
    yield "opus of 17 hours", ogg.opus(2_000)
    yield "opus that says it ends at once", ogg.opus(40, last_granule=0)
    yield "opus that says it ends in the year 6000000", ogg.opus(2, last_granule=2**63 - 1)
    yield "opus that ends before it begins", ogg.opus(2, last_granule=-1)
    for channels in (0, 3, 255):
        yield f"opus of {channels} channels", ogg.opus(2, channels=channels)
    good = seeds.files()["OGG VORBIS"]
    for place, value in product(range(4, 60, 3), (0, 0xFF)):
        yield f"ogg with {value:#x} at {place}", good[:place] + bytes([value]) + good[place + 1 :]


def values() -> Named:
    """Samples that are no numbers, or beyond all bounds, and sound that is none."""
    samples = seeds.sound()
    for name, value in (("nan", np.nan), ("inf", np.inf), ("-inf", -np.inf), ("1e30", 1e30), ("denormal", 1e-40)):
        for kind, subtype in product(("WAV", "AIFF", "WAVEX"), ("FLOAT", "DOUBLE")):
            at_end = samples.copy()
            at_end[-1] = value
            yield f"{kind} {subtype} all {name}", encode(np.full_like(samples, value), seeds.RATE, kind, subtype)
            yield f"{kind} {subtype} ending in {name}", encode(at_end, seeds.RATE, kind, subtype)
    for kind in sorted(seeds.FAVOURITES):
        yield f"silent {kind}", encode(np.zeros_like(samples), seeds.RATE, kind)
        yield f"constant {kind}", encode(np.full_like(samples, 0.5), seeds.RATE, kind)
        yield f"{kind} of a tenth of a second", encode(samples[: seeds.RATE // 10], seeds.RATE, kind)


def others() -> Named:
    """What is not sound, or is something else besides."""
    good = seeds.files()["WAV PCM_16"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/passwd", bytes(10_000_000))
        archive.writestr("a.wav", good)
    yield "nothing", b""
    yield "one byte", b"R"
    yield "zip", packed.getvalue()
    yield "gzip of a wav", gzip.compress(good, mtime=0)
    yield "gzip bomb", gzip.compress(bytes(50_000_000), mtime=0)
    yield "wav and zip", good + packed.getvalue()
    yield "zip and wav", packed.getvalue() + good
    yield "html and wav", b"<script>alert(1)</script>" + good
    yield "gif and wav", b"GIF89a" + good
    yield "pdf", b"%PDF-1.7\n" + bytes(1_000)
    yield "program", b"\x7fELF" + bytes(1_000)
    yield "pickle", b"\x80\x04cposix\nsystem\n\x8c\x04true\x85R."
    yield "shell", b"#!/bin/sh\nrm -rf /\n"
    yield "playlist", b"#EXTM3U\nfile:///etc/passwd\nhttp://169.254.169.254/latest/meta-data\n"
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "text that begins like a wav", b"RIFF is not what this is, nor WAVE\n" * 100
    random = np.random.default_rng(5)
    for magic, size in product(MAGIC, (0, 8, 64, 4_096, 100_000)):
        yield f"noise of {size} bytes after {magic!r}", magic + random.bytes(size)


def cut() -> Named:
    """Every format cut off in its header, in its middle, and one byte before its end."""
    for name, data in seeds.files().items():
        for size in (4, 8, 12, 20, 28, 36, 44, 60, 100, 200, len(data) // 2, len(data) - 1):
            yield f"{name} after {size} bytes", data[:size]
