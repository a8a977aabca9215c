"""How the service stands at this moment: queue, workers, leases, connections, room on the disk."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from app.db import Database, now, reading
from app.errors import DatabaseUnavailable
from app.models import Attribution, DeliveryStatus, Model, Status, WebhookDelivery, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from app.config import Settings
    from app.metrics.ended import EndedJobs
    from app.metrics.requests import RequestMetrics
    from app.storage import Storage

_MISSED_BEATS = 4
Label = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Gauge(Collector):
    """One figure, by its labels."""

    name: str
    meaning: str
    labels: Label
    values: Mapping[Label, float]

    def collect(self) -> Iterable[Metric]:
        """Return the figure in Prometheus' own form."""
        family = GaugeMetricFamily(f"rootnote_{self.name}", self.meaning, labels=self.labels)
        for label, value in self.values.items():
            family.add_metric(label, value)
        yield family


@dataclass(frozen=True)
class Sources:
    """What is asked for figures."""

    requests: RequestMetrics
    ended: EndedJobs
    database: Database
    storage: Storage
    settings: Settings


def served(session: Session, settings: Settings) -> dict[str, int]:
    """Count, by the name of each registered model, the workers that hold it and were seen within a few heartbeats."""
    lately = now(session) - timedelta(seconds=_MISSED_BEATS * settings.heartbeat_seconds)
    counted = (
        select(Model.name, func.count(Worker.id))
        .outerjoin(Worker, (Worker.model_id == Model.id) & (Worker.seen_at > lately))
        .group_by(Model.name)
    )
    return dict(session.execute(counted).all())


def workers_alive(session: Session, settings: Settings) -> int:
    """Count the workers that have been seen within a few heartbeats."""
    lately = now(session) - timedelta(seconds=_MISSED_BEATS * settings.heartbeat_seconds)
    return session.scalar(select(func.count()).select_from(Worker).where(Worker.seen_at > lately)) or 0


def render(sources: Sources) -> bytes:
    """Return everything in Prometheus' text format; without a database, what is known without one."""
    registry = CollectorRegistry()
    for gauge in (_build(sources.database), _connections(sources.database), *_room(sources)):
        registry.register(gauge)
    try:
        with reading(sources.database) as session:
            for gauge in (*_queue(session), *_workers(session, sources.settings)):
                registry.register(gauge)
            sources.ended.follow(session)
    except DatabaseUnavailable:
        registry.register(Gauge("database_up", "Whether the database answers.", (), {(): 0.0}))
    else:
        registry.register(Gauge("database_up", "Whether the database answers.", (), {(): 1.0}))
    return sources.requests.render() + generate_latest(sources.ended.registry) + generate_latest(registry)


def _queue(session: Session) -> Iterable[Gauge]:
    moment = now(session)
    grouped = (
        select(Model.name, Attribution.status, func.count(), func.min(Attribution.created_at))
        .join(Attribution.model)
        .where(Attribution.status.in_((Status.QUEUED, Status.RUNNING)))
        .group_by(Model.name, Attribution.status)
    )
    rows = session.execute(grouped).all()
    standing: dict[Label, float] = {(name, status): count for name, status, count, _ in rows}
    oldest = {(name,): _age(first, moment) for name, status, _, first in rows if status == Status.QUEUED}
    yield Gauge("attributions", "Attributions not yet ended.", ("model", "status"), standing)
    waiting = select(func.count(), func.min(WebhookDelivery.next_at)).where(
        WebhookDelivery.status == DeliveryStatus.PENDING
    )
    deliveries, next_at = session.execute(waiting).one()
    late_by = _age(next_at, moment) if next_at else 0.0
    yield Gauge("webhook_deliveries_pending", "Deliveries not yet made.", (), {(): deliveries})
    yield Gauge("webhook_delivery_overdue_seconds", "Since the first pending one was due.", (), {(): late_by})
    names: dict[Label, float] = {(name,): 0.0 for name in session.scalars(select(Model.name).distinct())}
    yield Gauge("oldest_queued_seconds", "Age of the oldest queued.", ("model",), names | oldest)
    late = select(func.count()).where(Attribution.status == Status.RUNNING, Attribution.lease_until < moment)
    yield Gauge("leases_overdue", "Leases that ran out and were not swept.", (), {(): session.scalar(late) or 0})


def _workers(session: Session, settings: Settings) -> Iterable[Gauge]:
    moment = now(session)
    seen = select(Model.name, func.max(Worker.seen_at)).join(Worker, Worker.model_id == Model.id).group_by(Model.name)
    ages: dict[Label, float] = {(name,): _age(last, moment) for name, last in session.execute(seen)}
    by_model: dict[Label, float] = {(name,): count for name, count in served(session, settings).items()}
    yield Gauge("workers_alive", "Workers seen lately.", (), {(): workers_alive(session, settings)})
    yield Gauge("model_workers_alive", "Workers seen lately that hold the model.", ("model",), by_model)
    yield Gauge("worker_seen_seconds", "Since a worker of the model was last seen.", ("model",), ages)


def _age(moment: datetime, present: datetime) -> float:
    return max((present - moment).total_seconds(), 0.0)


def _connections(database: Database) -> Gauge:
    values: dict[Label, float] = {}
    for name, engine in (("write", database.write), ("read", database.read)):
        pool: Any = engine.pool
        for state, count in (("in_use", "checkedout"), ("idle", "checkedin")):
            if hasattr(pool, count):
                values[name, state] = getattr(pool, count)()
    return Gauge("database_connections", "Pooled connections of this process.", ("pool", "state"), values)


def _room(sources: Sources) -> Iterable[Gauge]:
    free = sources.storage.free_bytes()
    if free is not None:
        yield Gauge("storage_free_bytes", "Room where uploads are kept.", (), {(): free})


def _build(database: Database) -> Gauge:
    told = (version("rootnote"), platform.python_version(), database.write.dialect.name)
    return Gauge("build_info", "What runs.", ("version", "python", "database"), {told: 1.0})
