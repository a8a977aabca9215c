"""Closing a month: once, whole, in one transaction; what comes to light later goes into a later month."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, insert, select
from sqlalchemy.exc import IntegrityError

from app.db import now
from app.errors import Conflict, InvalidRequest
from app.models import (
    Closing,
    ClosingTotal,
    Holder,
    Side,
    StatedSong,
    StatedTrack,
    Statement,
    StatementLine,
    new_id,
)
from app.statements import ledger, lines
from app.webhooks import outbox
from app.webhooks.outbox import EventType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class MonthOpen(Conflict):
    """The month has not ended, or one before it has not been closed."""

    type, title = "month-open", "This month cannot be closed yet"


class MonthPassed(Conflict):
    """A later month is closed already."""

    type, title = "month-passed", "A later month is closed already"


@dataclass(frozen=True)
class Closed:
    """A closed month: how many statements it has, and what it adds up to by month."""

    closing: Closing
    statements: int
    totals: Sequence[ClosingTotal]


def close(session: Session, *, tenant_id: str, month: str) -> Closed:
    """Close a month (YYYY-MM, UTC); what is closed stays as it is. Raises InvalidRequest, MonthOpen, MonthPassed."""
    until = end_of(month)
    found = find(session, tenant_id=tenant_id, month=month)
    if found is not None:
        return found
    if until > now(session):
        raise MonthOpen(f"{month} ends at {until:%Y-%m-%d} 00:00 UTC")
    previous = _previous(session, tenant_id, month)
    closing = Closing(id=new_id(), tenant_id=tenant_id, month=month, closed_at=now(session))
    try:
        with session.begin_nested():
            session.add(closing)
    except IntegrityError:  # another transaction closed it meanwhile
        return get(session, tenant_id=tenant_id, month=month)
    ledger.count(session, closing, until)
    lines.write(session, closing, previous)
    _statements(session, closing)
    _totals(session, closing)
    closed = get(session, tenant_id=tenant_id, month=month)
    data = {"month": month, "statements": closed.statements}
    outbox.emit(session, tenant_id=tenant_id, kind=EventType.STATEMENT_CLOSED, data=data)
    return closed


def find(session: Session, *, tenant_id: str, month: str) -> Closed | None:
    """A closed month, None where it is open."""
    closing = session.scalar(select(Closing).where(Closing.tenant_id == tenant_id, Closing.month == month))
    if closing is None:
        return None
    statements = session.scalar(select(func.count()).where(Statement.closing_id == closing.id)) or 0
    totals = select(ClosingTotal).where(ClosingTotal.closing_id == closing.id).order_by(ClosingTotal.month.desc())
    return Closed(closing, statements, session.scalars(totals).all())


def get(session: Session, *, tenant_id: str, month: str) -> Closed:
    """A closed month; raises MonthOpen."""
    found = find(session, tenant_id=tenant_id, month=month)
    if found is None:
        raise MonthOpen(f"{month} is not closed")
    return found


def end_of(month: str) -> datetime:
    """The instant after a month; raises InvalidRequest where it is none."""
    if not _MONTH.fullmatch(month):
        raise InvalidRequest("a month is YYYY-MM")
    year, number = map(int, month.split("-"))
    if not 1 <= year < datetime.max.year:
        raise InvalidRequest("a month is YYYY-MM")
    return (datetime(year, number, 1, tzinfo=UTC) + timedelta(days=32)).replace(day=1)


def _previous(session: Session, tenant_id: str, month: str) -> datetime | None:
    """When the last month was closed; raises MonthPassed, MonthOpen where tracks of a month between are not stated."""
    newest = select(Closing).where(Closing.tenant_id == tenant_id).order_by(Closing.month.desc()).limit(1)
    last = session.scalar(newest)
    if last is not None and last.month > month:
        raise MonthPassed(f"{last.month} is closed; what belongs to {month} is corrected in the next month")
    first = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    waiting = ledger.waiting(session, tenant_id, first).subquery()
    earliest = select(func.min(waiting.c.month)).where(waiting.c.month > ("" if last is None else last.month))
    between = session.scalar(earliest)
    if between is not None:
        raise MonthOpen(f"{between} is not closed; months are closed in their order")
    return None if last is None else last.closed_at


def _statements(session: Session, closing: Closing) -> None:
    """One statement for each holder that has lines."""
    sums = (_sum_of(Side.RECORDING), _sum_of(Side.WORK), func.count())
    whose = select(StatementLine.holder_id, *sums).where(StatementLine.closing_id == closing.id)
    found = whose.group_by(StatementLine.holder_id).subquery()
    columns = (Holder.name, Holder.ipi, Holder.isni, *found.c)
    rows = session.execute(select(*columns).join(found, found.c.holder_id == Holder.id).order_by(Holder.id)).all()
    names = ("name", "ipi", "isni", "holder_id", "recordings", "works", "lines")
    facts = {"tenant_id": closing.tenant_id, "closing_id": closing.id, "month": closing.month}
    dated = facts | {"created_at": closing.closed_at}
    made = [{"id": new_id(), **dated, **dict(zip(names, row, strict=True))} for row in rows]
    if made:
        session.execute(insert(Statement), made)


def _sum_of(side: Side) -> Any:
    return func.coalesce(func.sum(case((StatementLine.side == side, StatementLine.amount), else_=0)), 0)


def _totals(session: Session, closing: Closing) -> None:
    """What the closing adds up to, by the month that it is about; its own month always, if only with nothing."""
    tracks = select(StatedTrack.month, func.count()).where(StatedTrack.closing_id == closing.id)
    songs = select(StatedSong.month, func.sum(StatedSong.amount)).where(StatedSong.closing_id == closing.id)
    held = select(StatementLine.month, _sum_of(Side.RECORDING), _sum_of(Side.WORK))
    sums = {
        ("tracks",): tracks.group_by(StatedTrack.month),
        ("attributed",): songs.group_by(StatedSong.month),
        ("recordings", "works"): held.where(StatementLine.closing_id == closing.id).group_by(StatementLine.month),
    }
    nothing = dict.fromkeys((name for names in sums for name in names), 0)
    totals = {closing.month: dict(nothing)}
    for names, query in sums.items():
        for month, *values in session.execute(query):
            totals.setdefault(month, dict(nothing)).update(zip(names, map(int, values), strict=True))
    session.add_all(
        ClosingTotal(closing_id=closing.id, tenant_id=closing.tenant_id, month=month, **values)
        for month, values in totals.items()
    )
    session.flush()
