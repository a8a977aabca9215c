"""How loud a recording is over time: computed once for each content, in a process of its own, and kept for a while."""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.audio import Envelope, Limits, envelope
from app.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.storage import Storage

POINTS = 480
KEPT = 256
AT_ONCE = 2


class WaveformBusy(Unavailable):
    """Other waveforms are being computed."""

    type, title = "waveform-busy", "Other waveforms are being computed"


@dataclass
class Waveforms:
    """The waveforms that were last asked for, by the recording's digest; only so many are computed at once."""

    kept: OrderedDict[str, Envelope] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    turns: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(AT_ONCE))

    def of(self, storage: Storage, key: str, sha256: str, limits: Limits) -> Envelope:
        """Return a stored recording's waveform, POINTS peaks from 0 to 1.

        Raises AudioMissing, AudioCorrupt, AudioError, and Unavailable (WaveformBusy among it).
        """
        with self.lock:
            found = self.kept.get(sha256)
        if found is None:
            with self._turn():
                found = _computed(storage, key, sha256, limits)
            with self.lock:
                self.kept[sha256] = found
                while len(self.kept) > KEPT:
                    self.kept.popitem(last=False)
        return found

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self.turns.acquire(blocking=False):
            raise WaveformBusy
        try:
            yield
        finally:
            self.turns.release()


def _computed(storage: Storage, key: str, sha256: str, limits: Limits) -> Envelope:
    with tempfile.TemporaryDirectory(prefix="rootnote-") as folder:
        path = Path(folder) / "recording"
        storage.fetch(key, path, sha256=sha256)
        return envelope(path, limits, POINTS)
