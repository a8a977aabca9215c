"""Alerts as their owner sees them: made, seen, deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from app import cursor as cursors
from app import words
from app.catalogue import holders
from app.catalogue import service as catalogue
from app.cursor import PAGE_ROWS
from app.db import now
from app.errors import Conflict, NotFound
from app.models import Alert, new_id

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.cursor import Page

MAX_ALERTS = 1_000


@dataclass(frozen=True)
class Wanted:
    """What to be told of: exactly one of song, holder and artist; a share, or the sum of `window_days`."""

    threshold: float
    song_id: str | None = None
    holder_id: str | None = None
    artist: str | None = None
    window_days: int | None = None
    model: str | None = None


def create(session: Session, *, tenant_id: str, wanted: Wanted, ident: str | None = None) -> Alert:
    """An alert, or what there is under `ident`. Raises NotFound for an unknown song or holder, Conflict."""
    found: Alert | None = session.scalars(_alerts(tenant_id).where(Alert.id == ident)).one_or_none()
    if found is not None:
        return found
    if wanted.song_id is not None:
        catalogue.get(session, tenant_id=tenant_id, song_id=wanted.song_id)
    if wanted.holder_id is not None:
        holders.get(session, tenant_id=tenant_id, holder_id=wanted.holder_id)
    if (session.scalar(select(func.count()).select_from(_alerts(tenant_id).subquery())) or 0) >= MAX_ALERTS:
        raise Conflict(f"there are {MAX_ALERTS} alerts already")
    moment = now(session)
    alert = Alert(
        id=ident or new_id(),
        tenant_id=tenant_id,
        song_id=wanted.song_id,
        holder_id=wanted.holder_id,
        artist=None if wanted.artist is None else words.plain(wanted.artist),
        model=wanted.model,
        threshold=wanted.threshold,
        window_days=wanted.window_days,
        next_at=None if wanted.window_days is None else moment,
        above=False,
        created_at=moment,
    )
    session.add(alert)
    session.flush()
    return alert


def get(session: Session, *, tenant_id: str, alert_id: str) -> Alert:
    """An alert; raises NotFound for an unknown or foreign id."""
    found: Alert | None = session.scalars(_alerts(tenant_id).where(Alert.id == alert_id)).one_or_none()
    if found is None:
        raise NotFound("there is no such alert")
    return found


def page(session: Session, *, tenant_id: str, cursor: str | None = None, limit: int = PAGE_ROWS) -> Page[Alert]:
    """Alerts in the order of their making; raises BadCursor."""
    query = _alerts(tenant_id).order_by(Alert.id).limit(limit + 1)
    if cursor is not None:
        query = query.where(Alert.id > cursors.decode("alerts", cursor, str)[0])
    return cursors.page(session.scalars(query).all(), limit, lambda row: cursors.encode("alerts", row.id))


def remove(session: Session, *, tenant_id: str, alert_id: str) -> None:
    """Delete an alert; raises NotFound."""
    found = get(session, tenant_id=tenant_id, alert_id=alert_id)
    session.execute(delete(Alert).where(Alert.id == found.id))


def _alerts(tenant_id: str) -> Any:
    return select(Alert).where(Alert.tenant_id == tenant_id)
