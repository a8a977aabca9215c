"""Jobs that ended, counted from their rows: workers have no address that could be asked.

Each API process counts every job that ended since it started, or the first of those beside it, whichever process took
it in, so take the maximum over processes and not their sum.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from sqlalchemy import Row, select

from app.db import utcnow
from app.models import Attribution, Model

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

OVERLAP = timedelta(seconds=60)
"""An end may be committed so much later than it is dated."""
MOST_ROWS = 5_000
"""So many ends are read at once; what is left is counted at the next look."""
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)


@dataclass
class EndedJobs:
    """Counts ends from `since` on; `registry` holds the figures."""

    since: datetime = field(default_factory=utcnow)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self._ended = Counter(
            "rootnote_jobs_ended", "Attributions that ended.", ["model", "end", "type"], registry=self.registry
        )
        self._lapsed = Counter(
            "rootnote_leases_lapsed",
            "Leases that lapsed, of jobs that ended.",
            ["model"],
            registry=self.registry,
        )
        self._job = Histogram(
            *("rootnote_job_seconds", "From upload to success.", ["model"]), buckets=_SECONDS, registry=self.registry
        )
        self._stage = Histogram(
            *("rootnote_stage_seconds", "Time in a stage, of successes.", ["model", "stage"]),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._lock = threading.Lock()
        self._upto, self._known = self.since, dict[str, datetime]()

    def follow(self, session: Session) -> None:
        """Count what ended since the last look."""
        with self._lock:
            for row in self._new(session):
                self._count(row)
                self._known[row.id] = row.finished_at
                self._upto = max(self._upto, row.finished_at)
            kept = self._upto - OVERLAP
            self._known = {ident: moment for ident, moment in self._known.items() if moment >= kept}

    def _new(self, session: Session) -> list[Row[Any]]:
        begin = max(self.since, self._upto - OVERLAP)
        columns = (
            *(Attribution.id, Attribution.status, Attribution.error_type, Attribution.timings, Attribution.lapses),
            *(Attribution.created_at, Attribution.finished_at, Model.name.label("model")),
        )
        chosen = select(*columns).join(Attribution.model).where(Attribution.finished_at >= begin)
        ordered = chosen.order_by(Attribution.finished_at).limit(MOST_ROWS + len(self._known))
        return [row for row in session.execute(ordered) if row.id not in self._known]

    def _count(self, row: Row[Any]) -> None:
        self._ended.labels(row.model, row.status, row.error_type or "").inc()
        self._lapsed.labels(row.model).inc(row.lapses)
        if row.status == "succeeded":
            self._job.labels(row.model).observe((row.finished_at - row.created_at).total_seconds())
            for stage, seconds in row.timings.items():
                self._stage.labels(row.model, stage).observe(seconds)
