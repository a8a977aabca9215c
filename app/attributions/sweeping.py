"""What the sweeper does to attributions: ends lapsed leases, rings for what waits, expires what waited too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from app import leasing
from app.attributions import service
from app.models import Attribution, Model

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.config import Settings


@dataclass(frozen=True)
class Swept:
    """How many attributions each step touched."""

    lapsed: int
    expired: int
    rung: int


def sweep(session: Session, *, settings: Settings) -> Swept:
    """Every step once, at most `leasing.BATCH` rows each; the rings go out after the commit."""
    return Swept(lapse(session, settings=settings), expire(session), ring_due(session, settings=settings))


def lapse(session: Session, *, settings: Settings) -> int:
    """End the leases that ran out: back to the queue, or canceled if asked for, or failed when no attempt is left."""
    return leasing.lapse(session, Attribution, settings=settings)


def ring_due(session: Session, *, settings: Settings) -> int:
    """Ring again for what still waits; the time to the next ring doubles up to `ring_max_seconds`."""
    waiting = leasing.to_ring(session, Attribution, settings=settings)
    names = dict(session.execute(select(Model.id, Model.name)).all())
    for row in waiting:
        service.ring(session, row.id, names[row.model_id], settings)
    return len(waiting)


def expire(session: Session) -> int:
    """End what waited in the queue past its `expires_at`."""
    return leasing.expire(session, Attribution)
