"""What Prometheus is told: requests as they were served, and the queue as it stands."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.db import Database, now, reading
from app.errors import DatabaseUnavailable
from app.models import Attribution, Model, Status, Worker

_MISSED_BEATS = 4
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LABELS = ("method", "route", "status")


class RequestMetrics:
    """Counts and times the requests of one application; each has its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._count = Counter("rootnote_requests", "Requests served.", _LABELS, registry=self.registry)
        self._seconds = Histogram(
            "rootnote_request_seconds", "Time to serve.", _LABELS[:2], buckets=_BUCKETS, registry=self.registry
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one served request; `route` is the template of its path."""
        self._count.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


@dataclass(frozen=True, eq=False)
class Snapshot(Collector):
    """How many attributions stand where (by model and status), the oldest one queued, and the workers seen lately."""

    standing: dict[tuple[str, str], int]
    oldest_queued_s: float
    workers: int

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        depth = GaugeMetricFamily("rootnote_attributions", "Attributions not yet ended.", labels=("model", "status"))
        for (model, status), count in self.standing.items():
            depth.add_metric((model, status), count)
        yield depth
        yield GaugeMetricFamily("rootnote_oldest_queued_seconds", "Age of the oldest queued.", self.oldest_queued_s)
        yield GaugeMetricFamily("rootnote_workers_alive", "Workers seen lately.", self.workers)


def workers_alive(session: Session, settings: Settings) -> int:
    """Count the workers that have been seen within a few heartbeats."""
    lately = now(session) - timedelta(seconds=_MISSED_BEATS * settings.heartbeat_seconds)
    return session.scalar(select(func.count()).select_from(Worker).where(Worker.seen_at > lately)) or 0


def snapshot(session: Session, settings: Settings) -> Snapshot:
    """Read how the queue stands."""
    open_ones = Attribution.status.in_((Status.QUEUED, Status.RUNNING))
    grouped = (
        select(Model.name, Attribution.status, func.count(), func.min(Attribution.created_at))
        .join(Attribution.model)
        .where(open_ones)
        .group_by(Model.name, Attribution.status)
    )
    rows = session.execute(grouped).all()
    queued = [oldest for _, status, _, oldest in rows if status == Status.QUEUED]
    age = (now(session) - min(queued)).total_seconds() if queued else 0.0
    standing = {(name, status): count for name, status, count, _ in rows}
    return Snapshot(standing, max(age, 0.0), workers_alive(session, settings))


def render(requests: RequestMetrics, database: Database, settings: Settings) -> bytes:
    """Return everything in Prometheus' text format; without a database, what is known without one."""
    registry = CollectorRegistry()
    try:
        with reading(database) as session:
            registry.register(snapshot(session, settings))
    except DatabaseUnavailable:
        return generate_latest(requests.registry)
    return generate_latest(requests.registry) + generate_latest(registry)
