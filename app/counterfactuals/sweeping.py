"""What the sweeper does to counterfactuals: ends lapsed leases, rings for what waits, expires what waited too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app import leasing
from app.counterfactuals import service
from app.models import Attribution, Counterfactual, Model

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.config import Settings


def sweep(session: Session, *, settings: Settings) -> int:
    """Do every step once and return how many rows were touched; the rings go out after the commit."""
    touched = leasing.lapse(session, Counterfactual, settings=settings) + leasing.expire(session, Counterfactual)
    waiting = leasing.to_ring(session, Counterfactual, settings=settings)
    asked = [row.attribution_id for row in waiting]
    named = select(Attribution.id, Model.name).join(Attribution.model).where(Attribution.id.in_(asked))
    names = dict(session.execute(named).all())
    for row in waiting:
        service.ring(session, row.id, names[row.attribution_id], settings)
    return touched + len(waiting)
