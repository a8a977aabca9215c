"""When a threshold is passed: each crossing is one `song.alert`, in the transaction that finds it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, func, or_, select

from app.db import now
from app.models import Alert, Influence, Model, Right, Song
from app.webhooks import outbox
from app.webhooks.outbox import EventType

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.config import Settings

BATCH = 100


def counted(session: Session, attribution_id: str) -> int:
    """Tell of each share of a counted attribution that passes a threshold; returns how many did."""
    passing = (Alert.window_days.is_(None), Influence.share >= Alert.threshold)
    columns = (Alert, Influence.song_id, Influence.share, Influence.created_at)
    found = (
        select(*columns)
        .join(Alert, Alert.tenant_id == Influence.tenant_id)
        .join(Model, Model.id == Influence.model_id)
        .where(Influence.attribution_id == attribution_id, Influence.counted, *passing)
        .where(_about(), or_(Alert.model.is_(None), Alert.model == Model.name))
        .order_by(Alert.id, Influence.rank)
    )
    rows = session.execute(found).all()
    for row in rows:
        row.Alert.crossed_at = now(session)
        of_track = {"song_id": row.song_id, "attribution_id": attribution_id}
        _tell(session, row.Alert, row.share, of_track)
    return len(rows)


def sweep(session: Session, settings: Settings) -> int:
    """Look at the sums whose time has come, up to `BATCH`; returns how many passed their threshold just now."""
    moment = now(session)
    due = select(Alert).where(Alert.next_at <= moment).order_by(Alert.next_at).limit(BATCH)
    crossings = 0
    for alert in session.scalars(due.with_for_update(skip_locked=True)).all():
        alert.next_at = moment + timedelta(seconds=settings.alert_seconds)
        total = session.scalar(_total(alert).where(Influence.created_at > moment - _window(alert))) or 0.0
        above = total >= alert.threshold
        if above and not alert.above:
            crossings += 1
            alert.crossed_at = moment
            _tell(session, alert, total, {"song_id": alert.song_id, "attribution_id": None})
        alert.above = above
    return crossings


def _total(alert: Alert) -> Select[Any]:
    """The sum of what counts of an alert's songs, up to now."""
    total = select(func.sum(Influence.share)).join(Alert, Alert.tenant_id == Influence.tenant_id)
    total = total.where(Alert.id == alert.id, Influence.counted, _about())
    if alert.model is None:
        return total
    named = select(Model.id).where(Model.tenant_id == alert.tenant_id, Model.name == alert.model)
    return total.where(Influence.model_id.in_(named))


def _window(alert: Alert) -> timedelta:
    return timedelta(days=alert.window_days or 0)


def _about() -> ColumnElement[bool]:
    """Whether an influence is about a song that an alert is about."""
    theirs = select(Right.song_id).where(Right.holder_id == Alert.holder_id, Right.tenant_id == Alert.tenant_id)
    artists = select(Song.id).where(Song.artist_plain == Alert.artist, Song.tenant_id == Alert.tenant_id)
    return or_(
        Influence.song_id == Alert.song_id,
        and_(Alert.holder_id.is_not(None), Influence.song_id.in_(theirs.correlate(Alert))),
        and_(Alert.artist.is_not(None), Influence.song_id.in_(artists.correlate(Alert))),
    )


def _tell(session: Session, alert: Alert, value: float, more: dict[str, Any]) -> None:
    data = {
        "alert_id": alert.id,
        "value": value,
        "threshold": alert.threshold,
        "window_days": alert.window_days,
        "holder_id": alert.holder_id,
        "artist": alert.artist,
        "model": alert.model,
    }
    outbox.emit(session, tenant_id=alert.tenant_id, kind=EventType.SONG_ALERT, data=data | more)
