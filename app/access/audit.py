"""The audit log: who did what to which object, when, in which request, and what was refused.

A change and its entry are one transaction: neither is there without the other. The log only grows.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from app import cursor as cursors
from app.acting import Acting, changed, made
from app.cursor import PAGE_ROWS
from app.db import now, transaction
from app.models import AuditEntry, AuditOutcome, new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.cursor import Page
    from app.db import Database

MOST_NAMED = 20
"""So many of the rows that an action made are named one by one; all are counted."""
AGAIN_SECONDS = 60.0
SWEEPER = "sweeper"


@dataclass(frozen=True)
class Deed:
    """An action on an object, by the holder of a key or, without one, by an `actor` of the service's own machine."""

    tenant_id: str
    actor: str
    action: str
    key_id: str | None = None
    kind: str | None = None
    ident: str | None = None
    request_id: str | None = None
    if_changed: bool = False
    """Whether it is written down only where it made or changed a row."""

    def __call__(self, session: Session) -> None:
        """Write down that it was done, in the transaction that did it."""
        session.flush()
        rows = made(session)
        touched = rows or (changed(session) if self.if_changed else [])
        if self.if_changed and not touched:
            return
        first = next((row for row in touched if row[0] == self.kind), touched[0] if touched else (self.kind, None))
        kind, ident = (self.kind, self.ident) if self.ident else first
        details: dict[str, Any] = {}
        if rows:
            named = ["/".join(row) for row in rows[:MOST_NAMED]]
            details = {"made": Counter(table for table, _ in rows), "first": named}
        session.add(self._entry(session, kind, ident, AuditOutcome.DONE, details))

    def refused(self, session: Session, why: str) -> None:
        """Write down that it was not allowed; `why`: the type of the problem."""
        session.add(self._entry(session, self.kind, self.ident, AuditOutcome.DENIED, {"type": why}))

    def _entry(
        self, session: Session, kind: str | None, ident: str | None, outcome: AuditOutcome, details: dict[str, Any]
    ) -> AuditEntry:
        who = {"tenant_id": self.tenant_id, "key_id": self.key_id, "actor": self.actor}
        what = {"action": self.action, "object_kind": kind, "object_id": ident, "request_id": self.request_id}
        told = {"outcome": outcome, "details": details, "created_at": now(session)}
        return AuditEntry(id=new_id(), **who, **what, **told)


@dataclass(frozen=True)
class Wanted:
    """Which entries to list: of an action, a key, an object's id, an outcome, `since` ≤ time < `until`; None: any."""

    action: str | None = None
    key_id: str | None = None
    object_id: str | None = None
    outcome: AuditOutcome | None = None
    since: datetime | None = None
    until: datetime | None = None


def by_command(tenant_id: str, action: str, ident: str | None = None, *, if_changed: bool = False) -> Acting:
    """Act as the system, which sees every tenant, and write down what a command does for one."""
    actor = f"command, uid {os.getuid()}"
    return Acting(role=None, witness=Deed(tenant_id, actor, action, ident=ident, if_changed=if_changed))


class Refusals:
    """Writes down what was refused, each in a transaction of its own; the same again only after a minute."""

    def __init__(self, database: Database, ticks: Callable[[], float] = time.monotonic) -> None:
        self._database, self._ticks = database, ticks
        self._told: dict[tuple[str | None, str, str], float] = {}

    def write(self, deed: Deed, why: str) -> None:
        """Write a refusal down; `why`: the type of its problem. Raises DatabaseUnavailable."""
        what, moment = (deed.key_id, deed.action, why), self._ticks()
        if self._told.get(what, -AGAIN_SECONDS) > moment - AGAIN_SECONDS:
            return
        with transaction(self._database) as session:
            deed.refused(session, why)
        self._told[what] = moment


def page(
    session: Session, *, tenant_id: str, wanted: Wanted, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[AuditEntry]:
    """A tenant's entries, the newest first; raises BadCursor."""
    query = select(AuditEntry).where(AuditEntry.tenant_id == tenant_id)
    for name in ("action", "key_id", "object_id", "outcome"):
        if getattr(wanted, name) is not None:
            query = query.where(getattr(AuditEntry, name) == getattr(wanted, name))
    if wanted.since is not None:
        query = query.where(AuditEntry.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.created_at < wanted.until)
    if cursor is not None:
        query = query.where(AuditEntry.id < cursors.decode("audit", cursor, str)[0])
    rows = session.scalars(query.order_by(AuditEntry.id.desc()).limit(limit + 1)).all()
    return cursors.page(rows, limit, lambda row: cursors.encode("audit", row.id))
