"""Reads one audio file in a process of its own, where a file can do no harm (see `app.decoder_server`).

The answer is the facts of the file, or `error`, the slug of a problem type, and `detail`.
"""

from __future__ import annotations

import math
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from app.containers import Announced, announced
from app.decoding import PATIENCE, Request

FORMATS = {"WAV", "WAVEX", "AIFF", "FLAC", "MP3", "OGG"}
UNKNOWN_FRAMES = 2**62
BLOCK_SAMPLES = 262_144
SILENCE = 2e-4
LOUDEST = 1e6
SLACK_S = 0.1
MEMORY_BYTES = 2 * 1024**3

Answer = dict[str, str | int | float | None]


class Refused(Exception):
    """The file breaks a rule: the slug of a problem type, and a sentence."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error, self.detail = error, detail


class Forward(soundfile.SoundFile):  # type: ignore[misc]  # the library has no types
    """A sound file read from begin to end: one that may seek stops at the announced length, true or not."""

    def seekable(self) -> bool:
        """Never."""
        return False


def confine(request: Request) -> None:
    """Bound what this process can use: memory, processor and wall time, bytes written."""
    seconds = math.ceil(request.decode_seconds)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_FSIZE, request.max_decoded_bytes + 4 * BLOCK_SAMPLES)
    _limit(resource.RLIMIT_CORE, 0)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * request.decode_seconds)


def shut() -> None:
    """From here on this process can open nothing more: no file, no socket, no child's pipe."""
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_NOFILE, 0)


def _limit(kind: int, limit: int) -> None:
    with suppress(ValueError, OSError):  # some systems know fewer limits, or have lower ones already
        resource.setrlimit(kind, (limit, limit))


def look(file: soundfile.SoundFile, request: Request, told: Announced) -> Answer:
    """What the header says, refused where it breaks a limit. `frames` is None when it says nothing about the length."""
    if file.format not in FORMATS:
        raise Refused("not-audio", f"{file.format} is not among the known formats")
    if file.channels > request.max_channels:
        raise Refused("too-many-channels", f"{file.channels} channels, at most {request.max_channels}")
    if not request.min_rate <= file.samplerate <= request.max_rate:
        allowed = f"{request.min_rate} to {request.max_rate} Hz"
        raise Refused("bad-sample-rate", f"{file.samplerate} Hz, allowed are {allowed}")
    frames = told.frames
    if frames is None and told.library and file.frames < UNKNOWN_FRAMES:
        frames = int(file.frames)
    if frames is not None:
        check_length(frames, file, request)
    return facts(file, frames)


def check_length(frames: int, file: soundfile.SoundFile, request: Request) -> None:
    """Refuse more audio than allowed, by time and by decoded size."""
    if frames > request.max_seconds * file.samplerate:
        raise Refused("too-long", f"{frames / file.samplerate:.1f} s, at most {request.max_seconds:g} s")
    if frames * file.channels * 4 > request.max_decoded_bytes:
        raise Refused("too-large", f"more than {request.max_decoded_bytes} bytes once decoded")


def facts(file: soundfile.SoundFile, frames: int | None) -> Answer:
    """The facts of a file of so many frames."""
    return {
        "format": file.format,
        "subtype": file.subtype,
        "samplerate": file.samplerate,
        "channels": file.channels,
        "frames": frames,
        "duration_s": None if frames is None else frames / file.samplerate,
    }


@dataclass(frozen=True)
class Heard:
    """What decoding found: frames, whether the decoder got to the end, and the widest swing of a channel."""

    frames: int
    whole: bool
    swing: float


def decode(file: soundfile.SoundFile, target: BinaryIO, request: Request) -> Heard:
    """Write the samples, interleaved, checking every bound as they come, whatever the header said."""
    frames, whole = 0, True
    low, high = np.full(file.channels, np.inf), np.full(file.channels, -np.inf)
    while True:
        try:
            block = file.read(BLOCK_SAMPLES // file.channels, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            whole = False
            break
        if not len(block):
            break
        if not np.isfinite(block).all() or np.abs(block).max() > LOUDEST:
            raise Refused("not-finite", f"near {frames / file.samplerate:.1f} s")
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        frames += len(block)
        check_length(frames, file, request)
        target.write(memoryview(block))
    return Heard(frames, whole, float((high - low).max()) if frames else 0.0)


def read(file: soundfile.SoundFile, target: BinaryIO, request: Request, told: Announced) -> Answer:
    """Decode the file after a look at its header; the facts as they turned out."""
    promised = look(file, request, told)["frames"]
    heard = decode(file, target, request)
    seconds = heard.frames / file.samplerate
    missing = promised - heard.frames if isinstance(promised, int) else 0
    if not heard.whole or not told.whole or missing > SLACK_S * file.samplerate:
        raise Refused("truncated", f"nothing could be read after {seconds:.1f} s")
    if seconds < request.min_seconds:
        raise Refused("too-short", f"{seconds:.2f} s, at least {request.min_seconds:g} s")
    if heard.swing < SILENCE:
        raise Refused("silent", f"{seconds:.1f} s without a sound")
    return facts(file, heard.frames)


def answer(request: Request) -> Answer:
    """The facts, or why there are none. Confines this process for good."""
    try:
        confine(request)
        told = announced(Path(request.path))
        with (
            Path(request.path).open("rb", buffering=0) as source,
            Path(request.samples or "/dev/null").open("wb") as target,
        ):
            shut()
            with Forward(source.fileno(), closefd=False) as file:
                return read(file, target, request, told) if request.samples else look(file, request, told)
    except Refused as refused:
        return {"error": refused.error, "detail": refused.detail}
    except soundfile.LibsndfileError:
        return {"error": "not-audio", "detail": ""}
    except MemoryError:
        return {"error": "too-large", "detail": "decoding takes more memory than allowed"}
