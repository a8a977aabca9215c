"""The sender: takes due deliveries under a lease, sends them, writes what came of it. Any number may run.

A sender that dies loses nothing: its deliveries are due again when their lease has run out, under the same webhook-id.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from pydantic_core import to_json
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from app.db import Database, engines, now, reading, transaction
from app.errors import DatabaseUnavailable
from app.models import DeliveryStatus, DisabledFor, Event, WebhookDelivery, WebhookEndpoint, new_id
from app.webhooks import outbox, service, signing
from app.webhooks.outbox import EventType
from app.webhooks.post import Answer, Post

if TYPE_CHECKING:
    import threading

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.config import Settings

LONGEST_PAUSE_SECONDS = 30.0
LEASE_MARGIN_SECONDS = 30.0
KEPT_ATTEMPTS = 12
JITTER = 0.1
FORGET_ROWS = 500
GONE = 410

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """One delivery to send: where to, what, and signed with which secrets."""

    id: str
    token: str
    url: str
    event_id: str
    body: bytes
    secrets: tuple[str, ...]


def run(settings: Settings, stop: threading.Event) -> None:
    """Send what is due until `stop` is set; what is being sent then is finished, which takes a bounded time."""
    pause, post = settings.webhook_poll_seconds, Post(settings.webhook_seconds, settings.webhook_allow_private)
    with closing(engines(settings)) as db, ThreadPoolExecutor(settings.webhook_senders) as pool:
        while not stop.wait(pause):
            sent = once(db, settings, post, pool)
            if sent is None:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                pause = 0.0 if sent else settings.webhook_poll_seconds


def once(db: Database, settings: Settings, post: Post, pool: ThreadPoolExecutor) -> int | None:
    """Send what is due, as much as there are senders; how many, or None while the database is away."""
    try:
        jobs = take(db, settings)
        answers = pool.map(lambda job: _send(job, post, db), jobs)
        for job, answer in zip(jobs, answers, strict=True):
            with transaction(db) as session:
                settle(session, job, answer, settings)
        if not jobs:
            with transaction(db) as session:
                forget(session, settings)
    except (DatabaseUnavailable, SQLAlchemyError) as error:
        _log.warning("not delivered", error=repr(error))
        return None
    return len(jobs)


def take(db: Database, settings: Settings) -> list[Job]:
    """Hold due deliveries, the longest due first, for as long as sending may take."""
    with reading(db) as session:  # asking is free, writing is not
        if session.scalars(select(WebhookDelivery.id).where(*_due(now(session))).limit(1)).one_or_none() is None:
            return []
    with transaction(db) as session:
        moment, lease = now(session), settings.webhook_seconds + LEASE_MARGIN_SECONDS
        chosen = select(WebhookDelivery).where(*_due(moment)).order_by(WebhookDelivery.next_at)
        rows = session.scalars(chosen.limit(settings.webhook_senders).with_for_update(skip_locked=True)).all()
        for row in rows:
            row.token, row.next_at = new_id(), moment + timedelta(seconds=lease)
        return [_job(session, row) for row in rows]


def settle(session: Session, job: Job, answer: Answer, settings: Settings) -> bool:
    """Write what came of an attempt, and when the next is; False where the delivery has gone on without this one."""
    mine = select(WebhookDelivery).where(WebhookDelivery.id == job.id, WebhookDelivery.token == job.token)
    row = session.scalars(mine.with_for_update().execution_options(populate_existing=True)).one_or_none()
    if row is None:
        return False
    endpoint = session.scalars(
        select(WebhookEndpoint).where(WebhookEndpoint.id == row.endpoint_id).with_for_update()
    ).one()
    moment = now(session)
    row.token, row.tries = None, row.tries + 1
    row.attempts = [*row.attempts, _attempt(moment, answer)][-KEPT_ATTEMPTS:]
    if answer.taken:
        _end(row, DeliveryStatus.DELIVERED, moment)
        endpoint.failing_since = None
        return True
    endpoint.failing_since = endpoint.failing_since or moment
    wait = _wait(row.tries, answer, settings)
    if wait is None:
        _end(row, DeliveryStatus.FAILED, moment)
    else:
        row.next_at = moment + wait
    _give_up(session, endpoint, answer, settings)
    return True


def forget(session: Session, settings: Settings) -> None:
    """Delete events that are older than they are kept, with their deliveries, a bounded number at a time."""
    old = now(session) - timedelta(days=settings.webhook_keep_days)
    idents = session.scalars(select(Event.id).where(Event.created_at < old).limit(FORGET_ROWS)).all()
    if idents:
        session.execute(delete(WebhookDelivery).where(WebhookDelivery.event_id.in_(idents)))
        session.execute(delete(Event).where(Event.id.in_(idents)))


def body_of(event: Event) -> bytes:
    """An event as it is sent: always the same bytes."""
    return to_json({"type": event.type, "timestamp": event.created_at, "data": event.data})


def _send(job: Job, post: Post, db: Database) -> Answer:
    timestamp = int(db.clock().timestamp())
    signed = signing.headers(job.event_id, timestamp, job.body, job.secrets)
    fixed = {"Content-Type": "application/json", "User-Agent": "Rootnote-Webhooks/1"}
    answer = post.send(job.url, fixed | signed, job.body)
    _log.info("delivery", webhook_id=job.event_id, status=answer.status, error=answer.error, s=round(answer.seconds, 3))
    return answer


def _due(moment: datetime) -> tuple[ColumnElement[bool], ...]:
    return WebhookDelivery.status == DeliveryStatus.PENDING, WebhookDelivery.next_at <= moment


def _job(session: Session, row: WebhookDelivery) -> Job:
    event = session.get_one(Event, row.event_id)
    endpoint = session.get_one(WebhookEndpoint, row.endpoint_id)
    secrets = tuple(service.active(session, endpoint.id))
    return Job(row.id, str(row.token), endpoint.url, event.id, body_of(event), secrets)


def _attempt(moment: datetime, answer: Answer) -> dict[str, Any]:
    seconds = round(answer.seconds, 3)
    return {
        "at": moment.isoformat(),
        "status": answer.status,
        "error": answer.error,
        "answer": answer.body,
        "seconds": seconds,
    }


def _end(row: WebhookDelivery, status: DeliveryStatus, moment: datetime) -> None:
    row.status, row.next_at, row.ended_at = status, None, moment


def _wait(tries: int, answer: Answer, settings: Settings) -> timedelta | None:
    """How long until the next attempt, a little more or less each time; None after the last one."""
    waits = settings.webhook_retry_seconds
    if answer.status == GONE or tries > len(waits):
        return None
    jitter = 1 + random.uniform(-JITTER, JITTER)  # noqa: S311  not a secret
    asked = min(answer.retry_after_s or 0.0, max(waits))
    return timedelta(seconds=max(waits[tries - 1] * jitter, asked))


def _give_up(session: Session, endpoint: WebhookEndpoint, answer: Answer, settings: Settings) -> None:
    """Disable an endpoint that is gone, or has taken nothing for days; the tenant's other ones are told."""
    failing = now(session) - (endpoint.failing_since or now(session))
    if endpoint.disabled_for is not None:
        return
    if answer.status == GONE:
        reason = DisabledFor.GONE
    elif failing >= timedelta(days=settings.webhook_disable_days):
        reason = DisabledFor.FAILING
    else:
        return
    session.flush()
    service.disable(session, endpoint, reason)
    session.flush()
    data = {"endpoint_id": endpoint.id, "url": endpoint.url, "reason": str(reason)}
    outbox.emit(session, tenant_id=endpoint.tenant_id, kind=EventType.ENDPOINT_DISABLED, data=data)
