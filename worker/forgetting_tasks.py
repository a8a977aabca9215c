"""The task of a counterfactual: short, given one id, safe to run twice or never."""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
import structlog

from app.counterfactuals import lease
from app.counterfactuals.outcome import Apart, Forgotten, KeptTake, Outcome, Shift
from app.counterfactuals.service import TASK
from app.db import transaction
from app.models import ForgettingStage, Take
from app.storage import key_of
from worker.celery import celery
from worker.jobs import Job
from worker.renewal import Renewal
from worker.resident import Resident, resident, stopping

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    import numpy as np
    from sqlalchemy.orm import Session

    from app.audio import Decoded
    from worker.attribution.counterfactual import Apart as Distance
    from worker.forgetting import Counterfactual, Version

_log = structlog.get_logger(__name__)


@celery.task(name=TASK)
def forget(counterfactual_id: str) -> None:
    """Carry a counterfactual through, if it still waits and no other worker has it."""
    if not stopping.is_set():
        carry_out(resident(), counterfactual_id, stopping)


def carry_out(held: Resident, counterfactual_id: str, leaving: threading.Event) -> None:
    """Claim a counterfactual, compute it, write its end; `leaving`, once set, gives it back."""
    worker_id = held.presence.worker_id
    with transaction(held.db) as session:
        claim = lease.take(session, counterfactual_id=counterfactual_id, worker_id=worker_id, settings=held.settings)
    if claim is None:
        _log.info("nothing to do", id=counterfactual_id)
        return
    with (
        structlog.contextvars.bound_contextvars(id=claim.id, attempt=claim.attempt),
        Renewal(held.db, claim, held.settings, leaving) as renewal,
    ):
        Forgetting(held, claim, renewal).run()


class Forgetting(Job):
    """One attempt at a counterfactual."""

    def __init__(self, held: Resident, claim: lease.Claim, renewal: Renewal) -> None:
        super().__init__(held, claim, renewal)
        self.claim = claim

    def found(self) -> Callable[[Session], bool]:
        """Forget, measure, generate, keep the recordings, and return what writes the result."""
        from worker.engine import Query  # torch stays out of Celery's parent
        from worker.forgetting import Asked

        claim, report, began = self.claim, self.renewal.report, time.perf_counter()
        report(ForgettingStage.DECODING, 0.0)
        decoded = self.decoded()
        seconds = time.perf_counter() - began
        prompt = claim.prompt if claim.track_prompt is None else claim.track_prompt
        track = Query(samples=decoded.samples, rate=decoded.rate, prompt=prompt)
        asked = Asked(claim.song, claim.control, claim.prompt, claim.seed)
        done = self.engine().forget(track, asked, report)
        outcome = self._outcome(done, decoded, seconds)
        return lambda session: lease.complete(session, claim=claim, outcome=outcome)

    def _outcome(self, done: Counterfactual, decoded: Decoded, decoding: float) -> Outcome:
        takes = {Take.BASELINE: done.baseline, Take.FORGOTTEN: done.song.audio}
        if done.control is not None:
            takes[Take.CONTROL] = done.control.audio
        return Outcome(
            loss=done.loss,
            song=_forgotten(done.song),
            control=None if done.control is None else _forgotten(done.control),
            difference=None if done.difference is None else Shift(**asdict(done.difference)),
            likeness=_apart(done.likeness),
            audio={take: self._kept(samples, done.rate) for take, samples in takes.items()},
            timings={str(ForgettingStage.DECODING): decoding, **done.timings},
            details=done.details | {"track_seconds": decoded.samples.shape[1] / decoded.rate},
        )

    def _kept(self, samples: np.ndarray, rate: int) -> KeptTake:
        """Put a recording into the storage; the same samples lie there once."""
        with tempfile.TemporaryDirectory(prefix="rootnote-") as folder:
            path = Path(folder) / "take.flac"
            soundfile.write(path, samples.T, rate, format="FLAC", subtype="PCM_16")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            key = key_of(self.claim.tenant_id, digest)
            self.held.storage.put(path, key)
            return KeptTake(key, digest, path.stat().st_size, samples.shape[1] / rate)


def _forgotten(version: Version) -> Forgotten:
    change, own = (Shift(**asdict(each)) for each in (version.change, version.own))
    return Forgotten(change, own, _apart(version.apart))


def _apart(distance: Distance | None) -> Apart | None:
    return None if distance is None else Apart(**asdict(distance))
