"""A worker's hold on a job, whatever its table: taken by one UPDATE, renewed by beats, needed for every later write.

The token fences: once the lease is lost, nothing that its former holder does reaches the database.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog
from sqlalchemy import ColumnElement, Update, or_, select, update

from app.attributions.states import move
from app.db import now
from app.errors import AttemptsExhausted
from app.models import Attribution, Counterfactual, JobTable, Status, new_id
from app.usage import service as usage
from app.webhooks import outbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.attributions.outcome import ErrorInfo
    from app.config import Settings

BATCH = 200
"""The most rows that one sweep touches at each step."""

_log = structlog.get_logger(__name__)
Row = TypeVar("Row", Attribution, Counterfactual)


class Beat(StrEnum):
    """What a heartbeat learns: go on, stop because someone asked, or stop because the lease is another's."""

    OK = "ok"
    CANCEL = "cancel"
    LOST = "lost"


class Held(Protocol):
    """A lease on a row of `table`; `attempt` counts from 1, `stages` are the words for what its holder does."""

    @property
    def id(self) -> str:
        """The id of the row."""
        ...

    @property
    def token(self) -> str:
        """What fences."""
        ...

    @property
    def tenant_id(self) -> str:
        """Whose job it is."""
        ...

    @property
    def attempt(self) -> int:
        """How often it was taken."""
        ...

    @property
    def table(self) -> JobTable:
        """Where the row lies."""
        ...

    @property
    def stages(self) -> type[StrEnum]:
        """What its holder may be doing."""
        ...


def due(table: JobTable, moment: datetime) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a job waits for a worker."""
    begun = or_(table.not_before.is_(None), table.not_before <= moment)
    return table.status == Status.QUEUED, table.expires_at > moment, begun


def take(session: Session, table: JobTable, ident: str, *, worker_id: str, settings: Settings) -> str | None:
    """Take one queued job whose time has come and return the lease's token; None when it is taken, ended or not due."""
    moment, token = now(session), new_id()
    taking = (
        move(Status.QUEUED, Status.RUNNING, table)
        .where(table.id == ident, *due(table, moment))
        .values(lease_token=token, lease_until=moment + timedelta(seconds=settings.lease_seconds))
        .values(worker_id=worker_id, attempts=table.attempts + 1, started_at=moment)
        .values(stage="decoding", progress=0.0)
        .returning(table.id)
    )
    return None if session.scalars(taking).one_or_none() is None else token


def beat(
    session: Session, *, claim: Held, settings: Settings, stage: str | None = None, progress: float | None = None
) -> Beat:
    """Renew the lease, note stage and progress (clamped to 0–1) if given, and learn whether to go on."""
    table = claim.table
    values: dict[str, Any] = {"lease_until": now(session) + timedelta(seconds=settings.lease_seconds)}
    if stage is not None:
        values["stage"] = claim.stages(stage)
    if progress is not None:
        values["progress"] = min(max(progress, 0.0), 1.0)
    renewing = update(table).where(table.status == Status.RUNNING).values(values)
    canceling = session.scalars(_held(renewing, claim).returning(table.cancel_requested)).one_or_none()
    if canceling is None:
        return Beat.LOST
    return Beat.CANCEL if canceling else Beat.OK


def fail(session: Session, *, claim: Held, error: ErrorInfo, retry: bool, settings: Settings) -> bool:
    """End the job with `error`, or with `retry` queue it for a later attempt while any is left.

    One that was to be canceled is canceled instead of tried again. False when the lease was lost.
    """
    if retry and stop(session, claim=claim):
        return True
    if retry and claim.attempt < settings.max_attempts:
        again = now(session) + backoff(claim.attempt, settings)
        return end(session, claim, Status.QUEUED, {"not_before": again, "next_ring_at": again})
    values = {"finished_at": now(session), "error_type": error.type, "error_detail": error.detail}
    return _told(session, claim, written=end(session, claim, Status.FAILED, values))


def backoff(attempt: int, settings: Settings) -> timedelta:
    """How long to wait after the failed attempt of that number, counted from 1."""
    return timedelta(seconds=settings.retry_seconds * 2 ** (attempt - 1))


def release(session: Session, *, claim: Held) -> bool:
    """Give the job back, as a worker does that shuts down: no attempt is counted, others may take it at once.

    One that was to be canceled is canceled. False when the lease was lost.
    """
    if stop(session, claim=claim):
        return True
    values = {"attempts": claim.table.attempts - 1, "next_ring_at": now(session), "worker_id": None}
    return end(session, claim, Status.QUEUED, values)


def stop(session: Session, *, claim: Held) -> bool:
    """End a job that was to be canceled; False when the lease was lost or no one asked."""
    table = claim.table
    canceling = move(Status.RUNNING, Status.CANCELED, table).where(table.cancel_requested.is_(True))
    written = _metered(session, claim, _held(canceling, claim).values(finished_at=now(session)))
    return _told(session, claim, written=written)


def _told(session: Session, claim: Held, *, written: bool) -> bool:
    """Whether an end was written; then whoever listens is told of it."""
    if written:
        outbox.ended(session, claim.table, claim.id)
    return written


def end(session: Session, claim: Held, target: Status, values: dict[str, Any]) -> bool:
    """Move a running job to `target`; False when the lease was lost and nothing was written."""
    return _metered(session, claim, _held(move(Status.RUNNING, target, claim.table), claim).values(values))


def _metered(session: Session, claim: Held, ending: Update) -> bool:
    """Whether an end was written; then the time that the attempt took counts as used."""
    began = session.scalars(ending.returning(claim.table.started_at)).one_or_none()
    if began is None:
        return False
    usage.meter(session, claim.tenant_id, device_s=max((now(session) - began).total_seconds(), 0.0))
    return True


def _held(statement: Update, claim: Held) -> Update:
    return statement.where(claim.table.id == claim.id, claim.table.lease_token == claim.token)


def cancel(session: Session, table: JobTable, *chosen: ColumnElement[bool]) -> None:
    """Ask for an end: of what is queued at once, of what runs when its worker next looks; what has ended stays."""
    status = session.scalars(select(table.status).where(*chosen).with_for_update()).one_or_none()
    if status == Status.QUEUED:
        canceled = move(Status.QUEUED, Status.CANCELED, table).where(*chosen)
        canceled = canceled.values(cancel_requested=True, finished_at=now(session))
        outbox.ended(session, table, *session.scalars(canceled.returning(table.id)).all())
    elif status == Status.RUNNING:
        session.execute(update(table).where(*chosen).values(cancel_requested=True))


def lapse(session: Session, table: type[Row], *, settings: Settings) -> int:
    """End the leases that ran out: back to the queue, or canceled if asked for, or failed when no attempt is left."""
    late = _locked(session, table, table.status == Status.RUNNING, table.lease_until < now(session))
    for row in late:
        target, values = _after_lapse(row, session, settings)
        lapsing = move(Status.RUNNING, target, table).where(table.id == row.id, table.lease_token == row.lease_token)
        session.execute(lapsing.values(values | {"lapses": table.lapses + 1}))
        _log.warning("lease lapsed", id=row.id, request_id=row.request_id, attempt=row.attempts, becomes=str(target))
        if target is not Status.QUEUED:
            outbox.ended(session, table, row.id)
    return len(late)


def _after_lapse(
    row: Attribution | Counterfactual, session: Session, settings: Settings
) -> tuple[Status, dict[str, Any]]:
    moment = now(session)
    if row.cancel_requested:
        return Status.CANCELED, {"finished_at": moment}
    if row.attempts < settings.max_attempts:
        again = moment + backoff(row.attempts, settings)
        return Status.QUEUED, {"not_before": again, "next_ring_at": again}
    detail = f"{row.attempts} attempts ended without an answer; the last one in the stage {row.stage}"
    values = {"finished_at": moment, "error_type": AttemptsExhausted.type, "error_detail": detail}
    return Status.FAILED, values


def to_ring(session: Session, table: type[Row], *, settings: Settings) -> Sequence[Row]:
    """Return what waits for a ring, its next one put off: the time to it doubles up to `ring_max_seconds`."""
    moment = now(session)
    waiting = _locked(session, table, table.status == Status.QUEUED, table.next_ring_at <= moment)
    for row in waiting:
        wait = min(settings.ring_seconds * 2 ** min(row.rings + 1, 30), settings.ring_max_seconds)
        values = {"rings": row.rings + 1, "next_ring_at": moment + timedelta(seconds=wait)}
        session.execute(update(table).where(table.id == row.id).values(values))
    return waiting


def expire(session: Session, table: type[Row]) -> int:
    """End what waited in the queue past its `expires_at`."""
    moment = now(session)
    old = _locked(session, table, table.status == Status.QUEUED, table.expires_at <= moment)
    expiring = move(Status.QUEUED, Status.EXPIRED, table).where(table.id.in_([row.id for row in old]))
    session.execute(expiring.values(finished_at=moment))
    outbox.ended(session, table, *(row.id for row in old))
    return len(old)


def _locked(session: Session, table: type[Row], *conditions: ColumnElement[bool]) -> Sequence[Row]:
    """Up to `BATCH` rows, oldest first, that no other transaction is writing."""
    chosen = select(table).where(*conditions).order_by(table.id).limit(BATCH)
    return session.scalars(chosen.with_for_update(skip_locked=True).execution_options(populate_existing=True)).all()
