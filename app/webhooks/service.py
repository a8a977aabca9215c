"""Endpoints as their owner sees them: made, changed, deleted, secrets rotated, deliveries seen and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, or_, select, tuple_, update
from sqlalchemy.orm import joinedload

from app import cursor as cursors
from app.cursor import PAGE_ROWS
from app.db import now
from app.errors import Conflict, InvalidRequest, NotFound
from app.models import DeliveryStatus, DisabledFor, Event, WebhookDelivery, WebhookEndpoint, WebhookSecret, new_id
from app.webhooks import addresses, outbox, signing
from app.webhooks.outbox import EventType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.config import Settings
    from app.cursor import Page

MAX_ENDPOINTS = 50
MAX_SECRETS = 5
REPLAY_ROWS = 10_000


@dataclass(frozen=True)
class Wish:
    """What an endpoint shall be; None leaves it as it is."""

    url: str | None = None
    description: str | None = None
    events: tuple[str, ...] | None = None
    enabled: bool | None = None


def check(url: str, settings: Settings) -> str:
    """The URL, in its normal form, if deliveries may go there now; may wait for a name server.

    Raises InvalidRequest, PrivateAddress, UnknownHost.
    """
    parsed = addresses.parse(url, allow_private=settings.webhook_allow_private)
    addresses.checked(parsed.host, addresses.port_of(parsed), allow_private=settings.webhook_allow_private)
    return str(parsed)


def create(session: Session, *, tenant_id: str, wish: Wish, ident: str | None = None) -> tuple[WebhookEndpoint, str]:
    """An endpoint with its first secret, or what there is under `ident`. Raises Conflict where there are too many."""
    ident = ident or new_id()
    found = session.scalars(_endpoints(tenant_id).where(WebhookEndpoint.id == ident)).one_or_none()
    if found is not None:
        return found, active(session, found.id)[0]
    count = session.scalar(
        select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.tenant_id == tenant_id)
    )
    if (count or 0) >= MAX_ENDPOINTS:
        raise Conflict(f"there are {MAX_ENDPOINTS} endpoints already")
    made = WebhookEndpoint(
        id=ident, tenant_id=tenant_id, url=wish.url, description=wish.description or "", events=list(wish.events or ())
    )
    made.created_at = made.updated_at = now(session)
    session.add(made)
    session.flush()
    return made, _add_secret(session, made)


def get(session: Session, *, tenant_id: str, endpoint_id: str) -> WebhookEndpoint:
    """An endpoint; raises NotFound for an unknown or foreign id."""
    mine = _endpoints(tenant_id).where(WebhookEndpoint.id == endpoint_id)
    found: WebhookEndpoint | None = session.scalars(mine).one_or_none()
    if found is None:
        raise NotFound("there is no such endpoint")
    return found


def page(
    session: Session, *, tenant_id: str, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[WebhookEndpoint]:
    """Endpoints in the order of their making; raises BadCursor."""
    query = _endpoints(tenant_id).order_by(WebhookEndpoint.id).limit(limit + 1)
    if cursor is not None:
        query = query.where(WebhookEndpoint.id > cursors.decode("webhook-endpoints", cursor, str)[0])
    return cursors.page(session.scalars(query).all(), limit, lambda row: cursors.encode("webhook-endpoints", row.id))


def change(session: Session, *, tenant_id: str, endpoint_id: str, wish: Wish) -> WebhookEndpoint:
    """Change what is wished; one that is enabled again begins anew, without its past failures. Raises NotFound."""
    found = get(session, tenant_id=tenant_id, endpoint_id=endpoint_id)
    found.url = wish.url or found.url
    found.description = found.description if wish.description is None else wish.description
    found.events = found.events if wish.events is None else list(wish.events)
    if wish.enabled:
        found.disabled_for = found.disabled_at = found.failing_since = None
    elif wish.enabled is False and found.disabled_for is None:
        disable(session, found, DisabledFor.OWNER)
    found.updated_at = now(session)
    return found


def remove(session: Session, *, tenant_id: str, endpoint_id: str) -> None:
    """Delete an endpoint with its secrets and deliveries; raises NotFound."""
    found = get(session, tenant_id=tenant_id, endpoint_id=endpoint_id)
    for table in (WebhookDelivery, WebhookSecret):
        session.execute(delete(table).where(table.endpoint_id == found.id))
    session.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id == found.id))


def rotate(session: Session, *, tenant_id: str, endpoint_id: str, overlap_s: float) -> tuple[WebhookEndpoint, str]:
    """A new secret, told once; those before sign beside it for so many seconds more. Raises NotFound, Conflict."""
    found = get(session, tenant_id=tenant_id, endpoint_id=endpoint_id)
    if len(active(session, found.id)) >= MAX_SECRETS:
        raise Conflict(f"{MAX_SECRETS} secrets are good at the moment; rotate again when one has run out")
    until = now(session) + timedelta(seconds=overlap_s)
    older = or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > until)
    session.execute(update(WebhookSecret).where(WebhookSecret.endpoint_id == found.id, older).values(expires_at=until))
    return found, _add_secret(session, found)


def active(session: Session, endpoint_id: str) -> Sequence[str]:
    """The secrets that an endpoint's deliveries are signed with, the newest first."""
    good = or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > now(session))
    chosen = select(WebhookSecret.secret).where(WebhookSecret.endpoint_id == endpoint_id, good)
    return session.scalars(chosen.order_by(WebhookSecret.created_at.desc(), WebhookSecret.id.desc())).all()


def test(session: Session, *, tenant_id: str, endpoint_id: str) -> str:
    """Send an event that means nothing to one endpoint; returns the event's id. Raises NotFound, Conflict."""
    found = _enabled(session, tenant_id, endpoint_id)
    return outbox.emit_to(session, found, EventType.TEST, {"endpoint_id": found.id})


def deliveries(
    session: Session,
    *,
    tenant_id: str,
    endpoint_id: str,
    cursor: str | None = None,
    limit: int = PAGE_ROWS,
) -> Page[WebhookDelivery]:
    """What an endpoint was or is to be told, the newest first, events loaded; raises NotFound, BadCursor."""
    get(session, tenant_id=tenant_id, endpoint_id=endpoint_id)
    scope, place = f"deliveries:{endpoint_id}", tuple_(WebhookDelivery.created_at, WebhookDelivery.id)
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    if cursor is not None:
        query = query.where(place < cursors.decode(scope, cursor, datetime, str))
    newest = query.order_by(WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc())
    rows = session.scalars(newest.limit(limit + 1).options(joinedload(WebhookDelivery.event))).all()
    return cursors.page(rows, limit, lambda row: cursors.encode(scope, row.created_at, row.id))


def replay(session: Session, *, tenant_id: str, endpoint_id: str, event_id: str) -> None:
    """Deliver one event again, under its id; raises NotFound, Conflict while the endpoint is disabled."""
    found = _enabled(session, tenant_id, endpoint_id)
    chosen = select(Event.id).where(Event.tenant_id == tenant_id, Event.id == event_id)
    if session.scalars(chosen).one_or_none() is None:
        raise NotFound("there is no such event")
    _again(session, found, [event_id])


def replay_since(session: Session, *, tenant_id: str, endpoint_id: str, since: datetime) -> int:
    """Deliver again all that an endpoint wants of what happened since then; returns how many events.

    Raises NotFound, Conflict while it is disabled, InvalidRequest for more than `REPLAY_ROWS`.
    """
    found = _enabled(session, tenant_id, endpoint_id)
    happened = (Event.tenant_id == tenant_id, Event.created_at >= since, Event.type != EventType.TEST)
    wanted = (Event.type.in_(found.events),) if found.events else ()
    events = session.scalars(select(Event.id).where(*happened, *wanted).limit(REPLAY_ROWS + 1)).all()
    if len(events) > REPLAY_ROWS:
        raise InvalidRequest(f"since: more than {REPLAY_ROWS} events; choose a later time")
    _again(session, found, events)
    return len(events)


def disable(session: Session, endpoint: WebhookEndpoint, reason: DisabledFor) -> None:
    """Send nothing more to an endpoint; what waits for it is given up, and can be replayed once it is enabled."""
    moment = now(session)
    endpoint.disabled_for, endpoint.disabled_at = reason, moment
    waiting = (WebhookDelivery.endpoint_id == endpoint.id, WebhookDelivery.status == DeliveryStatus.PENDING)
    given_up: dict[str, Any] = {"status": DeliveryStatus.FAILED, "next_at": None, "token": None, "ended_at": moment}
    session.execute(update(WebhookDelivery).where(*waiting).values(given_up))


def _again(session: Session, endpoint: WebhookEndpoint, events: Sequence[str]) -> None:
    here = (WebhookDelivery.endpoint_id == endpoint.id, WebhookDelivery.event_id.in_(events))
    anew: dict[str, Any] = {"status": DeliveryStatus.PENDING, "tries": 0, "next_at": now(session), "ended_at": None}
    known = set(session.scalars(select(WebhookDelivery.event_id).where(*here)))
    session.execute(update(WebhookDelivery).where(*here).values(anew | {"token": None}))
    missing = [event for event in events if event not in known]
    outbox.deliver(session, endpoint.tenant_id, [(endpoint.id, event) for event in missing])


def _enabled(session: Session, tenant_id: str, endpoint_id: str) -> WebhookEndpoint:
    found = get(session, tenant_id=tenant_id, endpoint_id=endpoint_id)
    if found.disabled_for is not None:
        raise Conflict("the endpoint is disabled; enable it first")
    return found


def _add_secret(session: Session, endpoint: WebhookEndpoint) -> str:
    secret = signing.new_secret()
    session.add(
        WebhookSecret(tenant_id=endpoint.tenant_id, endpoint_id=endpoint.id, secret=secret, created_at=now(session))
    )
    session.flush()
    return secret


def _endpoints(tenant_id: str) -> Any:
    return select(WebhookEndpoint).where(WebhookEndpoint.tenant_id == tenant_id)
