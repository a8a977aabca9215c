"""What a track's header says, and its samples, both read in a process of their own under limits (see `app.decoder`)."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from app import errors
from app.decoding import Ended, Request, decoders

if TYPE_CHECKING:
    from app.config import Settings

log = structlog.get_logger(__name__)
KINDS = {
    kind.type: kind
    for kind in (
        *(errors.NotAudio, errors.Truncated, errors.TooLarge, errors.TooManyChannels, errors.BadSampleRate),
        *(errors.TooShort, errors.TooLong, errors.Silent, errors.NotFinite),
    )
}
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGXCPU, signal.SIGXFSZ}
"""Ends that the file itself brought about: the same file would do it again."""


@dataclass(frozen=True)
class Limits:
    """What is accepted: seconds, channels, sampling rates in Hz, bytes once decoded, seconds that decoding may take."""

    min_seconds: float
    max_seconds: float
    max_channels: int
    min_rate: int
    max_rate: int
    max_decoded_bytes: int
    decode_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits in force."""
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class AudioFacts:
    """What is known of a track; frames and seconds are None where only decoding tells."""

    format: str
    subtype: str
    samplerate: int
    channels: int
    frames: int | None
    duration_s: float | None


@dataclass(frozen=True)
class Decoded:
    """A track's samples, float32 [channel, sample], at `rate` Hz, and the facts as decoding found them."""

    samples: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    rate: int
    facts: AudioFacts


@dataclass(frozen=True)
class Envelope:
    """How loud a recording is: the largest magnitude, 0 to 1, in each of as many equal parts of its seconds."""

    peaks: tuple[float, ...]
    seconds: float


def inspect(path: Path, limits: Limits) -> AudioFacts:
    """What the header says; nothing is decoded.

    Raises NotAudio, TooManyChannels, BadSampleRate, TooLong, TooLarge, and DecoderFailed. A header that announces too
    little is not refused: writers that stream leave the length open, so only decoding can tell.
    """
    return AudioFacts(**_read(path, None, limits))


def decode(path: Path, limits: Limits) -> Decoded:
    """All samples of a track, whatever its header says.

    Raises what `inspect` raises, and TooShort, Truncated, Silent, NotFinite.
    """
    with tempfile.TemporaryDirectory(prefix="rootnote-") as folder:
        target = Path(folder) / "samples"
        facts = AudioFacts(**_read(path, target, limits))
        interleaved = np.memmap(target, dtype=np.float32, mode="r", shape=(facts.frames or 0, facts.channels))
        return Decoded(np.ascontiguousarray(interleaved.T), facts.samplerate, facts)


def envelope(path: Path, limits: Limits, points: int) -> Envelope:
    """The peaks of a recording in at most `points` equal parts; its samples are never held whole.

    Raises what `decode` raises.
    """
    with tempfile.TemporaryDirectory(prefix="rootnote-") as folder:
        target = Path(folder) / "samples"
        facts = AudioFacts(**_read(path, target, limits))
        frames = facts.frames or 0
        samples = np.memmap(target, dtype=np.float32, mode="r", shape=(frames, facts.channels))
        edges = np.linspace(0, frames, min(points, frames) + 1, dtype=np.int64)
        parts = (samples[begin:end] for begin, end in pairwise(edges.tolist()))
        peaks = tuple(min(1.0, max(float(part.max()), -float(part.min()))) for part in parts)
        return Envelope(peaks, frames / facts.samplerate)


def _read(path: Path, target: Path | None, limits: Limits) -> dict[str, Any]:
    began = time.perf_counter()
    request = Request(path=str(path.absolute()), samples=str(target) if target else None, **asdict(limits))
    ended = decoders().read(request)
    seconds = round(time.perf_counter() - began, 3)
    log.info("decoder ended", status=ended.status, seconds=seconds, peak_kib=ended.peak_kib)
    if ended.status != 0:
        raise _crash(ended)
    return _facts(json.loads(ended.answer))


def _crash(ended: Ended) -> errors.ServiceError:
    log.warning("decoder crashed", status=ended.status, peak_kib=ended.peak_kib, complaint=ended.complaint)
    if -ended.status in CRASHES:
        return errors.NotAudio("the file cannot be decoded within the limits")
    return errors.DecoderFailed(f"the decoder ended with {ended.status}")


def _facts(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise KINDS[answer["error"]](answer["detail"])
    return answer
