"""The task of an attribution: short, given one id, safe to run twice or never."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

from app.attributions import lease
from app.attributions.outcome import Check, Interval, Outcome, OutcomeRow, Provenance, Worth
from app.attributions.service import TASK
from app.db import transaction
from app.models import Stage, Verdict
from worker.celery import celery
from worker.jobs import Job
from worker.renewal import Renewal
from worker.resident import Resident, resident, stopping

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from app.audio import Decoded
    from worker.engine import Query, Ranking

_log = structlog.get_logger(__name__)


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
        Attributing(held, claim, renewal).run()


class Attributing(Job):
    """One attempt at an attribution."""

    def __init__(self, held: Resident, claim: lease.Claim, renewal: Renewal) -> None:
        super().__init__(held, claim, renewal)
        self.claim = claim

    def found(self) -> Callable[[Session], bool]:
        """Attribute the track and return what writes the ranking."""
        claim, report, began = self.claim, self.renewal.report, time.perf_counter()
        report(Stage.DECODING, 0.0)
        decoded = self.decoded()
        seconds = time.perf_counter() - began
        ranking = self.engine().attribute(_query(decoded, claim), report)
        outcome = _outcome(ranking, decoded, claim, seconds)
        return lambda session: lease.complete(session, claim=claim, outcome=outcome)


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
