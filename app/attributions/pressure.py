"""How many attributions may wait: beyond that, new ones are refused until some are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, literal, select

from app.acting import SYSTEM
from app.db import reading
from app.errors import TooManyRequests, Unavailable
from app.models import Attribution, Status

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.config import Settings
    from app.db import Database

AGAIN_SECONDS = 30.0


class QueueFull(Unavailable):
    """So many attributions of all tenants wait that a new one would wait too long."""

    type, title = "queue-full", "Too many attributions wait"


class TooManyWaiting(TooManyRequests):
    """So many attributions of this tenant wait already."""

    type, title = "too-many-waiting", "Too many of your attributions wait"


def check(db: Database, *, tenant_id: str, settings: Settings) -> None:
    """Raise TooManyWaiting or QueueFull where no attribution more may wait. Counts no further than the limits."""
    with reading(db.on_behalf_of(SYSTEM)) as session:  # a tenant's own transaction sees its own queue alone
        mine = _waiting(session, settings.max_queued_per_tenant, Attribution.tenant_id == tenant_id)
        everybodys = _waiting(session, settings.max_queued)
    if mine:
        detail = f"{settings.max_queued_per_tenant} of your attributions wait"
        raise TooManyWaiting(detail, retry_after_s=AGAIN_SECONDS)
    if everybodys:
        raise QueueFull(f"{settings.max_queued} attributions wait", retry_after_s=AGAIN_SECONDS)


def _waiting(session: Session, limit: int, *conditions: ColumnElement[bool]) -> bool:
    some = select(literal(1)).where(Attribution.status == Status.QUEUED, *conditions).limit(limit).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) >= limit
