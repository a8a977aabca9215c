"""Valid files to begin with: every format and encoding that the decoding library writes, short and small."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
import soundfile

RATE = 16_000
SECONDS = 1.2
FAVOURITES = {"WAV", "WAVEX", "AIFF", "FLAC", "MP3", "OGG"}
"""The formats that the service accepts."""
APART = "SD2"
"""Its header is a second file, which the library leaves in the working folder and then reads other files by."""


def sound(rate: int = RATE, channels: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a chord with a tremor, [sample, channel]."""
    time = np.arange(int(SECONDS * rate)) / rate
    tone = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.2, 329.6)) / 6
    tone = tone * (1 + 0.3 * np.sin(2 * np.pi * 5 * time))
    return np.repeat(tone[:, None], channels, axis=1).astype(np.float32)


@lru_cache
def files() -> dict[str, bytes]:
    """Return valid files by name: each container with each of its encodings, and some with two channels."""
    found = {}
    for kind in sorted(soundfile.available_formats().keys() - {APART}):
        for subtype in sorted(soundfile.available_subtypes(kind)):
            data = _encode(kind, subtype, 1)
            if data:
                found[f"{kind} {subtype}"] = data
    for kind in sorted(FAVOURITES):
        found[f"{kind} stereo"] = _encode(kind, None, 2) or b""
    return {name: data for name, data in found.items() if data}


def accepted() -> dict[str, bytes]:
    """Return those of a format that the service accepts."""
    return {name: data for name, data in files().items() if name.split()[0] in FAVOURITES}


def _encode(kind: str, subtype: str | None, channels: int) -> bytes | None:
    out = io.BytesIO()
    rate = 8_000 if subtype in {"GSM610", "G721_32", "VOX_ADPCM"} else RATE
    rate = 48_000 if subtype == "OPUS" else rate
    try:
        soundfile.write(out, sound(rate, channels), rate, format=kind, subtype=subtype)
    except (soundfile.SoundFileError, ValueError, TypeError, OSError):
        return None  # the library lists pairs that it cannot write
    return out.getvalue()
