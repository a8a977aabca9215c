"""Statements over HTTP: months closed, statements read, and each as a document, a table and a flat file."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from app import answers, errors
from app.access.gate import Caller
from app.access.scopes import Scope
from app.db import Database, reading, transaction
from app.deps import CallerDep, DatabaseDep, PlaceDep, ReadDep, SettingsDep, needs
from app.models import Statement as StatementRow
from app.problems import document
from app.reports.routes import CSV, SIGNED, signed
from app.statements import closing, documents, service
from app.statements.schemas import (
    ClosedMonth,
    ClosedMonthPage,
    Month,
    Statement,
    StatementLine,
    StatementLinePage,
    StatementPage,
)

router = APIRouter(prefix="/v1", tags=["statements"])

TSV = "text/tab-separated-values; charset=utf-8"
_READ = [needs(Scope.STATEMENTS_READ)]
_READ_OWN = [needs(Scope.STATEMENTS_READ, Scope.HOLDER_READ)]


def _file(kind: str) -> dict[int | str, dict[str, Any]]:
    told = {"description": "The file.", "content": {kind: {"schema": {"type": "string"}}}}
    return document(errors.NotFound) | {200: told}


@router.post(
    "/statements/{month}/close",
    operation_id="closeMonth",
    summary="Close a month",
    responses=document(closing.MonthOpen, closing.MonthPassed),
    dependencies=[needs(Scope.STATEMENTS_WRITE)],
)
def close(database: DatabaseDep, caller: CallerDep, month: str) -> ClosedMonth:
    """Write every holder's statement of a month that has ended, once: closing it again changes nothing.

    What comes to light later (late results, upheld disputes, changed rights) becomes lines of a later month's
    statement that say which month they correct.
    """
    with transaction(database) as session:
        return ClosedMonth.of(closing.close(session, tenant_id=caller.tenant_id, month=month))


@router.get(
    "/closings",
    operation_id="listClosings",
    summary="See the months that are closed",
    response_model=ClosedMonthPage,
    responses=document(errors.BadCursor),
    dependencies=_READ,
)
def closings(database: DatabaseDep, caller: CallerDep, place: PlaceDep) -> Response:
    """Show closed months and what they add up to, the newest first."""
    with reading(database) as session:
        found = service.closings(session, tenant_id=caller.tenant_id, cursor=place.cursor, limit=place.limit)
    items = [ClosedMonth.of(closed) for closed in found.items]
    return answers.json(ClosedMonthPage(items=items, next_cursor=found.next_cursor))


@router.get(
    "/statements",
    operation_id="listStatements",
    summary="Find statements",
    response_model=StatementPage,
    responses=document(errors.BadCursor),
    dependencies=_READ_OWN,
)
def listing(
    database: DatabaseDep,
    caller: CallerDep,
    place: PlaceDep,
    month: Annotated[Month | None, Query(description="Only those of this month, YYYY-MM.")] = None,
    holder: Annotated[str | None, Query(description="Only those of the holder of this id.")] = None,
) -> Response:
    """Show statements, the newest first; a rights-holder sees its own."""
    if caller.holder_id is not None and holder not in {None, caller.holder_id}:
        return answers.json(StatementPage(items=[], next_cursor=None))
    wanted = service.Wanted(month, caller.holder_id or holder)
    with reading(database) as session:
        found = service.page(session, tenant_id=caller.tenant_id, wanted=wanted, cursor=place.cursor, limit=place.limit)
    items = [Statement.of(row) for row in found.items]
    return answers.json(StatementPage(items=items, next_cursor=found.next_cursor))


@router.get(
    "/statements/{statement_id}",
    operation_id="getStatement",
    summary="See a statement",
    responses=document(errors.NotFound),
    dependencies=_READ_OWN,
)
def get(session: ReadDep, caller: CallerDep, statement_id: str) -> Statement:
    """Show whose it is, of which month, and what it adds up to."""
    return Statement.of(_theirs(session, caller, statement_id))


@router.get(
    "/statements/{statement_id}/lines",
    operation_id="listStatementLines",
    summary="See the lines of a statement",
    response_model=StatementLinePage,
    responses=document(errors.NotFound, errors.BadCursor),
    dependencies=_READ_OWN,
)
def lines(database: DatabaseDep, caller: CallerDep, place: PlaceDep, statement_id: str) -> Response:
    """Show a statement's lines: its own month's first, recordings before works, the largest first."""
    with reading(database) as session:
        statement = _theirs(session, caller, statement_id)
        found = service.lines(session, statement=statement, cursor=place.cursor, limit=place.limit)
        before = service.corrected(session, statement)
    items = [StatementLine.of(row, statement.month, before) for row in found.items]
    shown = StatementLinePage(statement=Statement.of(statement), items=items, next_cursor=found.next_cursor)
    return answers.json(shown)


@router.get(
    "/statements/{statement_id}/report",
    operation_id="getStatementReport",
    summary="Get a statement as a signed document",
    response_class=Response,
    responses=document(errors.NotFound)
    | {200: {"description": "Canonical JSON with a signature.", "content": {"application/json": SIGNED}}},
    dependencies=_READ_OWN,
)
def report(database: DatabaseDep, settings: SettingsDep, caller: CallerDep, statement_id: str) -> Response:
    """Show the whole statement as canonical JSON under a signature; the same statement gives the same bytes."""
    found = _document(database, caller, statement_id)
    return Response(signed(database, settings, found), media_type="application/json")


@router.get(
    "/statements/{statement_id}/report.csv",
    operation_id="getStatementTable",
    summary="Get a statement's lines as CSV",
    response_class=Response,
    responses=_file("text/csv"),
    dependencies=_READ_OWN,
)
def as_csv(database: DatabaseDep, caller: CallerDep, statement_id: str) -> Response:
    """Show the same lines as the signed document, a row each."""
    return _sent(_document(database, caller, statement_id), documents.as_csv, CSV, "csv")


@router.get(
    "/statements/{statement_id}/report.tsv",
    operation_id="getStatementFlatFile",
    summary="Get a statement as a flat file keyed by ISRC and ISWC",
    response_class=Response,
    responses=_file("text/tab-separated-values"),
    dependencies=_READ_OWN,
)
def as_flat_file(database: DatabaseDep, caller: CallerDep, statement_id: str) -> Response:
    """Show the same statement as tab-separated records, in the manner of DDEX sales reports (it is not one)."""
    return _sent(_document(database, caller, statement_id), documents.as_flat_file, TSV, "tsv")


def _theirs(session: Session, caller: Caller, statement_id: str) -> StatementRow:
    """Return a statement of the caller's; raises NotFound."""
    return service.get(session, tenant_id=caller.tenant_id, statement_id=statement_id, holder_id=caller.holder_id)


def _document(database: Database, caller: Caller, statement_id: str) -> dict[str, Any]:
    with reading(database) as session:
        return documents.document(session, _theirs(session, caller, statement_id))


def _sent(found: dict[str, Any], form: Callable[[dict[str, Any]], bytes], kind: str, ending: str) -> Response:
    name = f"rootnote-statement-{found['statement']['month']}-{found['statement']['id']}.{ending}"
    return Response(form(found), media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
