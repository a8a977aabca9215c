"""The tasks: short, given one id, safe to run twice or never. Here alone every exception is caught."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from app.attributions import lease
from app.attributions.outcome import Check, ErrorInfo, Interval, Outcome, OutcomeRow, Provenance, Worth
from app.attributions.service import TASK
from app.audio import Decoded, Limits, decode
from app.db import transaction
from app.errors import ServiceError, Unavailable
from app.models import Stage, Verdict
from worker.celery import celery
from worker.renewal import Canceled, LeaseLost, Leaving, Renewal
from worker.resident import Resident, resident, stopping

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from worker.engine import Engine, Query, Ranking

_log = structlog.get_logger(__name__)


class OtherModel(Unavailable):
    """The job asks for a version of the model that this worker can neither hold nor load."""

    type, title = "other-model", "No worker could load this version of the model"


class TookTooLong(ServiceError):
    """The job ran into its time limit."""

    type, title = "took-too-long", "The attribution took too long"


@celery.task(name=TASK)
def attribute(attribution_id: str) -> None:
    """Carry an attribution through, if it still waits and no other worker has it."""
    if not stopping.is_set():
        carry_out(resident(), attribution_id, stopping)


def carry_out(held: Resident, attribution_id: str, leaving: threading.Event) -> None:
    """Claim an attribution, attribute it, write its end; `leaving`, once set, gives it back."""
    with transaction(held.db) as session:
        claim = lease.claim(
            session, attribution_id=attribution_id, worker_id=held.presence.worker_id, settings=held.settings
        )
    if claim is None:
        _log.info("nothing to do", id=attribution_id)
        return
    with (
        structlog.contextvars.bound_contextvars(request_id=claim.request_id, id=claim.id, attempt=claim.attempt),
        Renewal(held.db, claim, held.settings, leaving) as renewal,
    ):
        _Job(held, claim, renewal).run()


class _Job:
    """One attempt at an attribution: from its claim to the one transaction that ends it."""

    def __init__(self, held: Resident, claim: lease.Claim, renewal: Renewal) -> None:
        self._held, self._claim, self._renewal = held, claim, renewal
        self._log = _log.bind()

    def run(self) -> None:
        """Compute and write the end, whatever it is."""
        self._log.info("begun")
        claim = self._claim
        try:
            outcome = self._outcome()
            self._write("succeeded", lambda session: lease.complete(session, claim=claim, outcome=outcome))
        except Canceled:
            self._write("canceled", lambda session: lease.stop(session, claim=claim))
        except Leaving:
            self._write("given back", lambda session: lease.release(session, claim=claim))
        except LeaseLost:
            self._log.warning("lease lost; the job goes on elsewhere")
        except Exception as error:  # noqa: BLE001  the task boundary: whatever it was, the row must say so
            self._fail(error)

    def _outcome(self) -> Outcome:
        report, began = self._renewal.report, time.perf_counter()
        report(Stage.DECODING, 0.0)
        decoded = self._decoded()
        seconds = time.perf_counter() - began
        ranking = self._engine().attribute(_query(decoded, self._claim), report)
        return _outcome(ranking, decoded, self._claim, seconds)

    def _decoded(self) -> Decoded:
        claim, held = self._claim, self._held
        with tempfile.TemporaryDirectory(prefix="rootnote-") as folder:
            path = Path(folder) / "track"
            held.storage.fetch(claim.audio_key, path, sha256=claim.audio_sha256)
            return decode(path, Limits.of(held.settings))

    def _engine(self) -> Engine:
        from worker.diffusion.layout import UnsupportedPipeline  # torch stays out of Celery's parent
        from worker.manifest import IndexMismatch

        try:
            return self._held.hold(self._claim)
        except (IndexMismatch, UnsupportedPipeline, OSError) as error:
            raise OtherModel(f"this version of {self._claim.model_name} cannot be loaded: {error}") from error

    def _fail(self, error: Exception) -> None:
        claim, settings = self._claim, self._held.settings
        info, retry = _verdict(error)
        self._log.warning("failed", type=info.type, detail=info.detail, retry=retry, exc_info=info.type == "internal")
        self._write(
            "failed", lambda session: lease.fail(session, claim=claim, error=info, retry=retry, settings=settings)
        )

    def _write(self, end: str, write: Callable[[Session], bool]) -> None:
        written = self._renewal.write(write)
        if written is None:
            self._log.warning("lease lost before the end was written", end=end)
        else:
            self._log.info(end if written else "too late: the job had left this worker", end=end)


def _verdict(error: Exception) -> tuple[ErrorInfo, bool]:
    """What the row shall say of an error, and whether another attempt can help."""
    from worker.engine import EngineError  # torch stays out of Celery's parent

    if isinstance(error, ServiceError):
        return ErrorInfo.of(error), error.retryable
    if isinstance(error, EngineError):
        return ErrorInfo(error.kind, str(error)), False
    if isinstance(error, SoftTimeLimitExceeded):
        return ErrorInfo.of(TookTooLong()), False
    return ErrorInfo.of(ServiceError()), True


def _query(decoded: Decoded, claim: lease.Claim) -> Query:
    from worker.engine import Query  # torch stays out of Celery's parent

    return Query(samples=decoded.samples, rate=decoded.rate, prompt=claim.prompt, method=claim.method)


def _outcome(ranking: Ranking, decoded: Decoded, claim: lease.Claim, decoding: float) -> Outcome:
    rows = (
        OutcomeRow(
            key=row.key,
            score=row.score,
            share=row.share,
            percentile=row.percentile,
            check=None if row.check is None else Check(**asdict(row.check)),
            matches=[asdict(match) for match in row.matches],
            interval=Interval(**asdict(row.interval)),
            effect=row.effect,
        )
        for row in ranking.influences
    )
    return Outcome(
        influences=tuple(rows),
        unattributed=ranking.unattributed,
        model_digest=claim.model_digest,
        index_digest=claim.index_digest,
        reliability=ranking.reliability,
        timings={str(Stage.DECODING): decoding, **ranking.timings},
        details=ranking.details,
        audio_facts=asdict(decoded.facts),
        worth=Worth(
            provenance=Provenance(Verdict(ranking.provenance.verdict), ranking.provenance.probability),
            reference_loss=ranking.reference_loss,
            calibrated=ranking.calibrated,
            abstained=ranking.abstained,
        ),
    )
