"""Reads one audio file in a process of its own, where a file can do no harm: `python -I decoder.py REQUEST`.

REQUEST is JSON: `path`, `samples` (where to write the decoded float32, null for a look at the header alone), the
limits of `app.audio.Limits` and what `app.containers.Announced` knows. The answer, one JSON object on standard output,
is the facts, or `error` and `detail`. Run by path, this file imports nothing of ours.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

FORMATS = {"WAV", "WAVEX", "AIFF", "FLAC", "MP3", "OGG"}
UNKNOWN_FRAMES = 2**62
BLOCK_FRAMES = 65_536
SILENCE = 2e-4
LOUDEST = 1e6
SLACK_S = 0.1
MEMORY_BYTES = 2 * 1024**3


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


def confine(request: dict[str, Any]) -> None:
    """Bound what this process can use: memory, processor and wall time, bytes written."""
    seconds = math.ceil(request["decode_seconds"])
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_FSIZE: request["max_decoded_bytes"] + BLOCK_FRAMES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        with suppress(ValueError, OSError):  # some systems know fewer limits, or have lower ones already
            resource.setrlimit(kind, (limit, limit))
    signal.setitimer(signal.ITIMER_REAL, request["decode_seconds"])


def look(file: soundfile.SoundFile, request: dict[str, Any]) -> dict[str, Any]:
    """What the header says, refused where it breaks a limit. `frames` is None when it says nothing about the length."""
    if file.format not in FORMATS:
        raise Refused("not-audio", f"{file.format} is not among the known formats")
    if file.channels > request["max_channels"]:
        raise Refused("too-many-channels", f"{file.channels} channels, at most {request['max_channels']}")
    if not request["min_rate"] <= file.samplerate <= request["max_rate"]:
        allowed = f"{request['min_rate']} to {request['max_rate']} Hz"
        raise Refused("bad-sample-rate", f"{file.samplerate} Hz, allowed are {allowed}")
    frames = request["frames"]
    if frames is None and request["library"] and file.frames < UNKNOWN_FRAMES:
        frames = int(file.frames)
    if frames is not None:
        check_length(frames, file, request)
    return facts(file, frames)


def check_length(frames: int, file: soundfile.SoundFile, request: dict[str, Any]) -> None:
    """Refuse more audio than allowed, by time and by decoded size."""
    if frames > request["max_seconds"] * file.samplerate:
        raise Refused("too-long", f"{frames / file.samplerate:.1f} s, at most {request['max_seconds']:g} s")
    if frames * file.channels * 4 > request["max_decoded_bytes"]:
        raise Refused("too-large", f"more than {request['max_decoded_bytes']} bytes once decoded")


def facts(file: soundfile.SoundFile, frames: int | None) -> dict[str, Any]:
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


def decode(file: soundfile.SoundFile, target: Path, request: dict[str, Any]) -> Heard:
    """Write the samples, interleaved, checking every bound as they come, whatever the header said."""
    frames, whole = 0, True
    low, high = np.full(file.channels, np.inf), np.full(file.channels, -np.inf)
    with target.open("wb") as out:
        while True:
            try:
                block = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
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
            block.tofile(out)
    return Heard(frames, whole, float((high - low).max()) if frames else 0.0)


def read(file: soundfile.SoundFile, request: dict[str, Any]) -> dict[str, Any]:
    """Decode the file after a look at its header; the facts as they turned out."""
    announced = look(file, request)["frames"]
    heard = decode(file, Path(request["samples"]), request)
    seconds = heard.frames / file.samplerate
    missing = 0 if announced is None else announced - heard.frames
    if not heard.whole or not request["whole"] or missing > SLACK_S * file.samplerate:
        raise Refused("truncated", f"nothing could be read after {seconds:.1f} s")
    if seconds < request["min_seconds"]:
        raise Refused("too-short", f"{seconds:.2f} s, at least {request['min_seconds']:g} s")
    if heard.swing < SILENCE:
        raise Refused("silent", f"{seconds:.1f} s without a sound")
    return facts(file, heard.frames)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The facts, or why there are none."""
    try:
        with Forward(request["path"]) as file:
            return read(file, request) if request["samples"] else look(file, request)
    except Refused as refused:
        return {"error": refused.error, "detail": refused.detail}
    except soundfile.LibsndfileError:
        return {"error": "not-audio", "detail": ""}
    except MemoryError:
        return {"error": "too-large", "detail": "decoding takes more memory than allowed"}


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    confine(order)
    sys.stdout.write(json.dumps(answer(order)))
