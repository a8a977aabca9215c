"""What was told of the jobs: each end is one event, and each event came at least once, under one id, signed."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from app.attributions.states import ENDED
from app.db import engines, reading, transaction
from app.models import DEFAULT_TENANT, Attribution, DeliveryStatus, Event, WebhookDelivery
from app.webhooks import service
from app.webhooks.service import Wish
from bench.chaos.journal import Journal
from bench.chaos.receiver import JOURNAL, SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from app.db import Database
    from bench.chaos.setups import Service


def listen(running: Service) -> None:
    """Have the service tell its receiver of everything."""
    wish = Wish(service.check(running.hook, running.settings))
    with closing(engines(running.settings)) as db, transaction(db) as session:
        _, secret = service.create(session, tenant_id=DEFAULT_TENANT, wish=wish)
    (running.received / SECRET).write_text(secret)


def undelivered(db: Database) -> int:
    """Count the deliveries that are still on their way."""
    with reading(db) as session:
        pending = select(func.count()).where(WebhookDelivery.status == DeliveryStatus.PENDING)
        return session.scalar(pending) or 0


def judge(db: Database, received: Path) -> dict[str, int]:
    """Return how many events and deliveries there were, and every count of what should not be."""
    lines = Journal(received / JOURNAL).lines
    came = Counter(line["id"] for line in lines if not line.get("forged"))
    with reading(db) as session:
        ended = {row.id: str(row.status) for row in session.scalars(select(Attribution)) if row.status in ENDED}
        told = [row for row in session.scalars(select(Event)) if "attribution_id" in row.data]
        states = Counter(session.scalars(select(WebhookDelivery.status)))
    of_job = Counter(event.data["attribution_id"] for event in told)
    return {
        "events": len(told),
        "events_received": sum(came.values()),
        "received_again": sum(came.values()) - len(came),
        "ends_without_an_event": len(ended.keys() - of_job.keys()),
        "ends_with_two_events": sum(count > 1 for count in of_job.values()),
        "events_that_tell_another_end": sum(ended.get(e.data["attribution_id"]) != e.data["status"] for e in told),
        "events_never_received": sum(event.id not in came for event in told),
        "events_received_that_are_none": len(came.keys() - {event.id for event in told}),
        "signatures_not_good": sum(bool(line.get("forged")) for line in lines),
        "deliveries_not_made": sum(count for state, count in states.items() if state != DeliveryStatus.DELIVERED),
    }


COUNTS = ("events", "events_received", "received_again")
"""What is told beside the broken promises."""


def broken(found: dict[str, Any]) -> dict[str, int]:
    """Return the counts of broken promises among what was judged."""
    return {name: count for name, count in found.items() if name not in COUNTS}
