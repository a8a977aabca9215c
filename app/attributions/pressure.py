"""How many attributions may wait: beyond that, new ones are refused until some are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, literal, select

from app.errors import TooManyRequests, Unavailable
from app.models import Attribution, Status

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.config import Settings

AGAIN_SECONDS = 30.0


class QueueFull(Unavailable):
    """So many attributions of all tenants wait that a new one would wait too long."""

    type, title = "queue-full", "Too many attributions wait"


class TooManyWaiting(TooManyRequests):
    """So many attributions of this tenant wait already."""

    type, title = "too-many-waiting", "Too many of your attributions wait"


def check(session: Session, *, tenant_id: str, settings: Settings) -> None:
    """Raise TooManyWaiting or QueueFull where no attribution more may wait. Counts no further than the limits."""
    if _waiting(session, settings.max_queued_per_tenant, Attribution.tenant_id == tenant_id):
        detail = f"{settings.max_queued_per_tenant} of your attributions wait"
        raise TooManyWaiting(detail, retry_after_s=AGAIN_SECONDS)
    if _waiting(session, settings.max_queued):
        raise QueueFull(f"{settings.max_queued} attributions wait", retry_after_s=AGAIN_SECONDS)


def _waiting(session: Session, limit: int, *conditions: ColumnElement[bool]) -> bool:
    some = select(literal(1)).where(Attribution.status == Status.QUEUED, *conditions).limit(limit).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) >= limit
