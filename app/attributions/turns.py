"""Whose job is next: tenants that wait for one model are served in turn, each its oldest job first.

A message tells of one job and is answered with the next one in turn, so a tenant's thousand messages serve others too.
Every job has a message and every message takes a job, so none is left without; the sweeper rings for those that are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, tuple_, update

from app.db import now
from app.leasing import due
from app.models import Attribution, Model, Tenant

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def next_waiting(session: Session, like: str) -> str | None:
    """The id of the next job in turn among those that wait for the same workers as one attribution, or None."""
    named = tuple_(Model.name, Model.index_digest)
    same = select(Model.name, Model.index_digest).join(Attribution).where(Attribution.id == like)
    models = select(Model.id).where(named.in_(same))
    waiting = (Attribution.model_id.in_(models), *due(Attribution, now(session)))
    theirs = select(Attribution.id).where(Attribution.tenant_id == Tenant.id, *waiting).correlate(Tenant)
    tenant = session.scalar(select(Tenant.id).where(theirs.exists()).order_by(Tenant.turn, Tenant.id).limit(1))
    if tenant is None:
        return None
    oldest = select(Attribution.id).where(Attribution.tenant_id == tenant, *waiting)
    return session.scalar(oldest.order_by(Attribution.created_at, Attribution.id).limit(1))


def served(session: Session, tenant_id: str) -> None:
    """Put a tenant behind all others."""
    last = select(func.max(Tenant.turn)).scalar_subquery()
    session.execute(update(Tenant).where(Tenant.id == tenant_id).values(turn=last + 1))
