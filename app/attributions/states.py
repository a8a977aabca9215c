"""The state machine of an attribution, and of any job like it: which status may follow which."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Update, update

from app.errors import Conflict
from app.models import Attribution, JobTable, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

ALLOWED: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELED, Status.EXPIRED}),
        Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.QUEUED}),
        Status.SUCCEEDED: frozenset(),
        Status.FAILED: frozenset(),
        Status.CANCELED: frozenset(),
        Status.EXPIRED: frozenset(),
    }
)
ENDED = frozenset(status for status, after in ALLOWED.items() if not after)


class IllegalTransition(Conflict):
    """A status was to follow one that it may not follow."""


def move(source: Status, target: Status, table: JobTable = Attribution) -> Update:
    """The UPDATE that takes jobs of a table from `source` to `target` and drops what only the old state needs.

    Add `.where(…)` for which, `.values(…)` for the rest. Raises IllegalTransition.
    """
    if target not in ALLOWED[source]:
        raise IllegalTransition(f"what is {source} cannot become {target}")
    values: dict[str, Any] = {"status": target}
    if source is Status.RUNNING:
        values |= {"lease_token": None, "lease_until": None}
    if target is not Status.QUEUED:
        values |= {"next_ring_at": None, "not_before": None}
    else:
        values |= {"stage": None, "progress": 0.0}
    return update(table).where(table.status == source).values(values)
