"""The corpus through header check and decoder, as API and worker run them, several at a time."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app import audio
from app.audio import AudioFacts, Limits, decode, inspect
from app.config import Settings
from app.decoding import Decoders, Ended, Request
from app.errors import AudioError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE = 2
LIMITS = Limits.of(Settings())


class Watched(Decoders):
    """Decoders that keep how each child ended."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: Counter[int] = Counter()
        self.peak_kib = 0

    def read(self, request: Request) -> Ended:
        """Read a file, and remember the end."""
        ended = super().read(request)
        self.statuses[ended.status] += 1
        self.peak_kib = max(self.peak_kib, ended.peak_kib)
        return ended


@dataclass
class Tally:
    """What became of the files: how many by end, what should not have been, and the longest that one took."""

    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""

    def note(self, name: str, end: str, seconds: float) -> None:
        """Count one file."""
        self.ends[end] += 1
        if end.startswith("wrong"):
            self.wrong.append(f"{name}: {end}")
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest = round(seconds, 3), name


def judge(path: Path, limits: Limits = LIMITS) -> str:
    """Return how the service ends a file: `accepted`, the slug of its refusal, or `wrong: …`."""
    try:
        shown = inspect(path, limits)
        decoded = decode(path, limits)
    except AudioError as refused:
        return refused.type
    except ServiceError as error:
        return f"wrong: {error.type} {error}"
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
        return f"wrong: {error!r}"
    return "accepted" if sane(shown, decoded, limits) else f"wrong: accepted {decoded.facts}"


def sane(shown: AudioFacts, decoded: audio.Decoded, limits: Limits) -> bool:
    """Whether what was accepted keeps every promise: shape, bounds, finite samples, and the header's own facts."""
    facts, samples = decoded.facts, decoded.samples
    bounds = (
        limits.min_seconds <= samples.shape[1] / decoded.rate <= limits.max_seconds,
        samples.shape[0] <= limits.max_channels,
        limits.min_rate <= decoded.rate <= limits.max_rate,
        samples.nbytes <= limits.max_decoded_bytes,
    )
    same = (shown.channels, shown.samplerate, shown.format) == (facts.channels, facts.samplerate, facts.format)
    return all(bounds) and same and samples.shape == (facts.channels, facts.frames) and bool(np.isfinite(samples).all())


def run(files: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """Send every file through; return the figures."""
    tally, began, count = Tally(), time.monotonic(), 0
    with closing(Watched()) as decoders, tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        audio.decoders = lambda: decoders  # type: ignore[assignment]
        try:
            for name, end, seconds in pool.map(lambda each: _one(Path(folder), *each), enumerate(files)):
                tally.note(name, end, seconds)
                count += 1
        finally:
            audio.decoders = _ours
        return {
            "inputs": count,
            "seconds": round(time.monotonic() - began, 1),
            "ends": dict(tally.ends.most_common()),
            "wrong": tally.wrong,
            "decoder_ends": {str(status): number for status, number in sorted(decoders.statuses.items())},
            "decoder_peak_rss_mb": round(decoders.peak_kib / 1024, 1),
            "slowest_s": tally.slowest_s,
            "slowest": tally.slowest,
        }


_ours = audio.decoders


def _one(folder: Path, number: int, named: tuple[str, bytes]) -> tuple[str, str, float]:
    name, data = named
    path = folder / str(number)
    path.write_bytes(data)
    began = time.monotonic()
    end = judge(path) if data else "empty"  # refused before anything looks at it
    path.unlink()
    return name, end, time.monotonic() - began
