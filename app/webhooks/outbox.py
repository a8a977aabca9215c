"""The outbox: an event is a row of the transaction in which it happened, so that neither exists without the other."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from app.db import now
from app.errors import InvalidRequest
from app.models import Attribution, DeliveryStatus, Event, Model, WebhookDelivery, WebhookEndpoint, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.models import JobTable


class EventType(StrEnum):
    """What can happen."""

    SUCCEEDED = "attribution.succeeded"
    FAILED = "attribution.failed"
    CANCELED = "attribution.canceled"
    EXPIRED = "attribution.expired"
    SONG_ALERT = "song.alert"
    STATEMENT_CLOSED = "statement.closed"
    ENDPOINT_DISABLED = "endpoint.disabled"
    TEST = "endpoint.test"

    @classmethod
    def of(cls, name: str) -> EventType:
        """The type of that name; raises InvalidRequest."""
        try:
            return cls(name)
        except ValueError as error:
            raise InvalidRequest(f"the types of events are {', '.join(cls)}") from error


def emit(session: Session, *, tenant_id: str, kind: EventType, data: dict[str, Any]) -> str:
    """Write an event and what is to be delivered of it; returns its id."""
    event_id = _event(session, tenant_id, kind, data)
    wanting = [each.id for each in _listening(session, tenant_id) if wants(each, kind)]
    deliver(session, tenant_id, [(endpoint_id, event_id) for endpoint_id in wanting])
    return event_id


def emit_to(session: Session, endpoint: WebhookEndpoint, kind: EventType, data: dict[str, Any]) -> str:
    """Write an event that one endpoint alone is told of, whatever it wants else; returns the event's id."""
    event_id = _event(session, endpoint.tenant_id, kind, data)
    deliver(session, endpoint.tenant_id, [(endpoint.id, event_id)])
    return event_id


def ended(session: Session, table: JobTable, *idents: str) -> None:
    """Tell that jobs have ended, in the transaction that ends them; of attributions alone, by now."""
    if table is not Attribution or not idents:
        return
    columns = (Attribution.id, Attribution.tenant_id, Attribution.status, Attribution.external_id)
    more = (Attribution.batch, Attribution.custom_id, Attribution.counted, Attribution.error_type, Model.name)
    chosen = select(*columns, *more).join(Attribution.model).where(Attribution.id.in_(idents))
    for row in session.execute(chosen.order_by(Attribution.id)).all():
        data = {
            "attribution_id": row.id,
            "status": row.status,
            "model": row.name,
            "external_id": row.external_id,
            "batch": row.batch,
            "custom_id": row.custom_id,
            "counted": row.counted,
            "error": row.error_type,
        }
        emit(session, tenant_id=row.tenant_id, kind=EventType(f"attribution.{row.status}"), data=data)


def wants(endpoint: WebhookEndpoint, kind: str) -> bool:
    """Whether an endpoint asked for this type; tests are sent only where asked for by name."""
    return kind != EventType.TEST and (not endpoint.events or kind in endpoint.events)


def deliver(session: Session, tenant_id: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Have events delivered: endpoint and event of each, none of which is on its way already."""
    moment = now(session)
    fixed = {"tenant_id": tenant_id, "status": DeliveryStatus.PENDING, "tries": 0, "attempts": []}
    rows = [
        {"id": new_id(), "endpoint_id": endpoint_id, "event_id": event_id, "next_at": moment, "created_at": moment}
        for endpoint_id, event_id in pairs
    ]
    if rows:
        session.execute(insert(WebhookDelivery), [fixed | row for row in rows])


def _event(session: Session, tenant_id: str, kind: EventType, data: dict[str, Any]) -> str:
    ident = new_id()
    values = {"id": ident, "tenant_id": tenant_id, "type": kind, "data": data, "created_at": now(session)}
    session.execute(insert(Event).values(values))
    return ident


def _listening(session: Session, tenant_id: str) -> Sequence[WebhookEndpoint]:
    mine = (WebhookEndpoint.tenant_id == tenant_id, WebhookEndpoint.disabled_for.is_(None))
    return session.scalars(select(WebhookEndpoint).where(*mine).order_by(WebhookEndpoint.id)).all()
