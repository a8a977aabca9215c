"""How long a job is without a worker after the one that held it was killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from app.attributions.states import ENDED
from app.db import reading
from app.errors import DatabaseUnavailable
from app.models import Attribution

if TYPE_CHECKING:
    from datetime import datetime

    from app.db import Database


@dataclass
class Recovery:
    """A job whose worker was killed at `killed`; seconds until its next attempt began, and until its end."""

    id: str
    attempt: int
    killed: datetime
    taken_s: float | None = None
    ended_s: float | None = None


@dataclass
class Recoveries:
    """The jobs whose worker was killed, looked at in the database until they have ended."""

    db: Database
    all: list[Recovery] = field(default_factory=list)

    def lost(self, ident: str, attempt: int, killed: datetime) -> None:
        """Note that the worker which made this attempt was killed."""
        self.all.append(Recovery(ident, attempt, killed))

    def look(self) -> None:
        """Look at those that have not ended; a database that is away is asked the next time."""
        missing = {each.id for each in self.all if each.ended_s is None}
        if not missing:
            return
        columns = (Attribution.id, Attribution.attempts, Attribution.status)
        times = (Attribution.started_at, Attribution.finished_at)
        try:
            with reading(self.db) as session:
                rows = {row.id: row for row in session.execute(select(*columns, *times).where(columns[0].in_(missing)))}
        except DatabaseUnavailable:
            return
        for each in self.all:
            if each.ended_s is None and each.id in rows:
                _note(each, rows[each.id])

    def over(self) -> bool:
        """Whether all have ended."""
        return all(each.ended_s is not None for each in self.all)

    def summary(self, lease_s: float) -> dict[str, Any]:
        """Return how long it took, in seconds."""
        taken = sorted(each.taken_s for each in self.all if each.taken_s is not None)
        ended = sorted(each.ended_s for each in self.all if each.ended_s is not None)
        return {
            "killed_in_mid_job": len(self.all),
            "lease_s": lease_s,
            "taken_again_s": _spread(taken),
            "ended_s": _spread(ended),
        }


def _note(each: Recovery, row: Any) -> None:
    if each.taken_s is None and row.attempts > each.attempt and row.started_at > each.killed:
        each.taken_s = round((row.started_at - each.killed).total_seconds(), 2)
    if row.status in ENDED:
        each.ended_s = round((row.finished_at - each.killed).total_seconds(), 2)


def _spread(values: list[float]) -> dict[str, float] | None:
    return {"median": values[len(values) // 2], "most": values[-1]} if values else None
