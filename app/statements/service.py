"""Statements and closed months as a caller sees them: listed and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.cursor import PAGE_ROWS, Page, decode, encode
from app.cursor import page as cut
from app.errors import NotFound
from app.models import Closing, ClosingTotal, Statement, StatementLine
from app.statements.closing import Closed, end_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Select
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Wanted:
    """Which statements to list: of a month (YYYY-MM), of a holder. Raises InvalidRequest where the month is none."""

    month: str | None = None
    holder_id: str | None = None

    def __post_init__(self) -> None:
        if self.month is not None:
            end_of(self.month)


def page(
    session: Session, *, tenant_id: str, wanted: Wanted, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Statement]:
    """Return statements, the newest first; raises BadCursor."""
    query = select(Statement).where(Statement.tenant_id == tenant_id)
    if wanted.month is not None:
        query = query.where(Statement.month == wanted.month)
    if wanted.holder_id is not None:
        query = query.where(Statement.holder_id == wanted.holder_id)
    if cursor is not None:
        (last,) = decode("statements", cursor, str)
        query = query.where(Statement.id < last)
    found = list(session.scalars(query.order_by(Statement.id.desc()).limit(limit + 1)))
    return cut(found, limit, lambda statement: encode("statements", statement.id))


def get(session: Session, *, tenant_id: str, statement_id: str, holder_id: str | None = None) -> Statement:
    """Return a statement; raises NotFound, for another tenant's too, and for another holder's where one is named."""
    wanted = select(Statement).where(Statement.id == statement_id, Statement.tenant_id == tenant_id)
    found = session.scalar(wanted if holder_id is None else wanted.where(Statement.holder_id == holder_id))
    if found is None:
        raise NotFound(f"there is no statement {statement_id}")
    return found


def lines(
    session: Session, *, statement: Statement, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[StatementLine]:
    """Return the lines of a statement in their order; raises BadCursor."""
    scope = f"lines:{statement.id}"
    after = 0 if cursor is None else decode(scope, cursor, int)[0]
    query = _lines(statement).where(StatementLine.place > after).limit(limit + 1)
    return cut(list(session.scalars(query)), limit, lambda line: encode(scope, line.place))


def all_lines(session: Session, statement: Statement) -> Iterable[StatementLine]:
    """Return every line of a statement, in its order."""
    return session.scalars(_lines(statement))


def total(session: Session, statement: Statement) -> ClosingTotal:
    """Return what the statement's month adds up to over all holders."""
    own = (ClosingTotal.closing_id == statement.closing_id, ClosingTotal.month == statement.month)
    return session.scalars(select(ClosingTotal).where(*own)).one()


def corrected(session: Session, statement: Statement) -> dict[str, str]:
    """Return the ids of the holder's statements of the months that this one corrects, by month."""
    months = select(StatementLine.month).where(
        StatementLine.closing_id == statement.closing_id,
        StatementLine.holder_id == statement.holder_id,
        StatementLine.month < statement.month,
    )
    theirs = (Statement.tenant_id == statement.tenant_id, Statement.holder_id == statement.holder_id)
    found = session.execute(select(Statement.month, Statement.id).where(*theirs, Statement.month.in_(months)))
    return {row.month: row.id for row in found}


def closings(session: Session, *, tenant_id: str, cursor: str | None = None, limit: int = PAGE_ROWS) -> Page[Closed]:
    """Return closed months, the newest first; raises BadCursor."""
    query = select(Closing).where(Closing.tenant_id == tenant_id)
    if cursor is not None:
        (last,) = decode("closings", cursor, str)
        query = query.where(Closing.month < last)
    found = list(session.scalars(query.order_by(Closing.month.desc()).limit(limit + 1)))
    idents = [closing.id for closing in found]
    counted = select(Statement.closing_id, func.count()).where(Statement.closing_id.in_(idents))
    counts = {row[0]: row[1] for row in session.execute(counted.group_by(Statement.closing_id))}
    totals: dict[str, list[ClosingTotal]] = {ident: [] for ident in idents}
    summed = select(ClosingTotal).where(ClosingTotal.closing_id.in_(idents)).order_by(ClosingTotal.month.desc())
    for row in session.scalars(summed):
        totals[row.closing_id].append(row)
    closed = [Closed(closing, counts.get(closing.id, 0), totals[closing.id]) for closing in found]
    return cut(closed, limit, lambda each: encode("closings", each.closing.month))


def _lines(statement: Statement) -> Select[StatementLine]:
    theirs = (StatementLine.closing_id == statement.closing_id, StatementLine.holder_id == statement.holder_id)
    return select(StatementLine).where(*theirs).order_by(StatementLine.place)
