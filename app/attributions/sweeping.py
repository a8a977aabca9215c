"""What the sweeper does to attributions: ends lapsed leases, rings for what waits, expires what waited too long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from app.attributions import service
from app.attributions.lease import backoff
from app.attributions.states import move
from app.db import now
from app.errors import AttemptsExhausted
from app.models import Attribution, Model, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.config import Settings

BATCH = 200


@dataclass(frozen=True)
class Swept:
    """How many attributions each step touched."""

    lapsed: int
    expired: int
    rung: int


def sweep(session: Session, *, settings: Settings) -> Swept:
    """Every step once, at most `BATCH` rows each; the rings go out after the commit."""
    return Swept(lapse(session, settings=settings), expire(session), ring_due(session, settings=settings))


def lapse(session: Session, *, settings: Settings) -> int:
    """End the leases that ran out: back to the queue, or canceled if asked for, or failed when no attempt is left."""
    late = _locked(session, Attribution.status == Status.RUNNING, Attribution.lease_until < now(session))
    for row in late:
        target, values = _after_lapse(row, session, settings)
        lapsing = move(Status.RUNNING, target).where(
            Attribution.id == row.id, Attribution.lease_token == row.lease_token
        )
        session.execute(lapsing.values(values))
    return len(late)


def _after_lapse(row: Attribution, session: Session, settings: Settings) -> tuple[Status, dict[str, Any]]:
    moment = now(session)
    if row.cancel_requested:
        return Status.CANCELED, {"finished_at": moment}
    if row.attempts < settings.max_attempts:
        again = moment + backoff(row.attempts, settings)
        return Status.QUEUED, {"not_before": again, "next_ring_at": again}
    detail = f"{row.attempts} attempts ended without an answer; the last one in the stage {row.stage}"
    values = {"finished_at": moment, "error_type": AttemptsExhausted.type, "error_detail": detail}
    return Status.FAILED, values


def ring_due(session: Session, *, settings: Settings) -> int:
    """Ring again for what still waits; the time to the next ring doubles up to `ring_max_seconds`."""
    moment = now(session)
    due = _locked(session, Attribution.status == Status.QUEUED, Attribution.next_ring_at <= moment)
    names = dict(session.execute(select(Model.id, Model.name)).all())
    for row in due:
        wait = min(settings.ring_seconds * 2 ** min(row.rings + 1, 30), settings.ring_max_seconds)
        values = {"rings": row.rings + 1, "next_ring_at": moment + timedelta(seconds=wait)}
        session.execute(update(Attribution).where(Attribution.id == row.id).values(values))
        service.ring(session, row.id, names[row.model_id], settings)
    return len(due)


def expire(session: Session) -> int:
    """End what waited in the queue past its `expires_at`."""
    moment = now(session)
    old = _locked(session, Attribution.status == Status.QUEUED, Attribution.expires_at <= moment)
    expiring = move(Status.QUEUED, Status.EXPIRED).where(Attribution.id.in_([row.id for row in old]))
    session.execute(expiring.values(finished_at=moment))
    return len(old)


def _locked(session: Session, *conditions: ColumnElement[bool]) -> Sequence[Attribution]:
    """Up to `BATCH` rows, oldest first, that no other transaction is writing."""
    chosen = select(Attribution).where(*conditions).order_by(Attribution.id).limit(BATCH)
    return session.scalars(chosen.with_for_update(skip_locked=True).execution_options(populate_existing=True)).all()
