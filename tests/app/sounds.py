"""Audio files for the tests, good and bad, made on the spot."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile


@dataclass(frozen=True)
class Sound:
    """A tone: seconds long, at `rate` Hz, on so many channels, with this peak."""

    seconds: float = 2.0
    rate: int = 22_050
    channels: int = 1
    peak: float = 0.3

    def samples(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """[sample, channel]"""
        time = np.arange(int(self.seconds * self.rate)) / self.rate
        tone = self.peak * np.sin(2 * np.pi * 440 * time)
        return np.repeat(tone[:, None], self.channels, axis=1).astype(np.float32)

    def encode(self, kind: str = "WAV", subtype: str | None = None) -> bytes:
        return encode(self.samples(), self.rate, kind, subtype)


def encode(samples: Any, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    constant = {"bitrate_mode": "CONSTANT", "compression_level": 0.8} if kind == "MP3" else {}
    soundfile.write(file, samples, rate, format=kind, subtype=subtype, **constant)
    return file.getvalue()


def wav_header(rate: int, channels: int, data_bytes: int) -> bytes:
    """A 16-bit PCM header that announces `data_bytes`, and nothing after it."""
    block = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", data_bytes)
    return b"RIFF" + struct.pack("<I", min(len(body) + data_bytes, 0xFFFFFFFF)) + body


def streamed_wav(rate: int, pcm: bytes) -> bytes:
    """A mono WAV as a writer leaves it that never learnt the length."""
    return wav_header(rate, 1, 0xFFFFFFFF) + pcm


def flac_with_length(flac: bytes, frames: int) -> bytes:
    """The FLAC with another number of frames in its stream information, 0 for unknown."""
    forged = bytearray(flac)
    forged[21] = forged[21] & 0xF0 | frames >> 32 & 0x0F
    forged[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    return bytes(forged)


def without_length(mp3: bytes) -> bytes:
    """The MP3 without its first frame, which holds no sound but their number."""
    return mp3[mp3.index(mp3[:2], 40) :]
