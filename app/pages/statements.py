"""A rights-holder's statement of one month, line by line, as it can be printed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.access.scopes import Scope
from app.db import reading
from app.deps import CallerDep, DatabaseDep, needs
from app.pages.rendering import PageRoute, page
from app.statements import service
from app.statements.schemas import Statement, StatementLine
from app.usage.routes import within_quota

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[Depends(within_quota)])

PAGE = 200


@router.get("/statements/{statement_id}", dependencies=[needs(Scope.STATEMENTS_READ, Scope.HOLDER_READ)])
def statement(
    request: Request,
    database: DatabaseDep,
    caller: CallerDep,
    statement_id: str,
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """Show a statement."""
    with reading(database) as session:
        found = service.get(session, tenant_id=caller.tenant_id, statement_id=statement_id, holder_id=caller.holder_id)
        lines = service.lines(session, statement=found, cursor=cursor, limit=PAGE)
        before = service.corrected(session, found)
        shown = Statement.of(found)
        items = [StatementLine.of(row, found.month, before) for row in lines.items]
    return page(request, "statement.html", statement=shown, lines=items, next_cursor=lines.next_cursor)
