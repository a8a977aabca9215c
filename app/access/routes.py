"""The audit log over HTTP: parse, call the service, show."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app import answers, errors
from app.access import audit
from app.access.schemas import AuditEntry, AuditPage
from app.access.scopes import Scope
from app.db import reading
from app.deps import CallerDep, DatabaseDep, Moment, PlaceDep, needs
from app.models import AuditOutcome
from app.problems import document

router = APIRouter(prefix="/v1/audit", tags=["access"])


@dataclass(frozen=True)
class Period:
    """From when until when."""

    since: datetime | None
    until: datetime | None


async def period(
    since: Annotated[Moment | None, Query(alias="from", description="From this instant on.")] = None,
    until: Annotated[Moment | None, Query(alias="to", description="Before this instant.")] = None,
) -> Period:
    """Return which time is asked for."""
    return Period(since, until)


async def wanted(
    within: Annotated[Period, Depends(period)],
    action: Annotated[str | None, Query(description="Only this action.")] = None,
    key: Annotated[str | None, Query(description="Only what was done with the key of this id.")] = None,
    object_id: Annotated[str | None, Query(alias="object", description="Only what was done to this object.")] = None,
    outcome: Annotated[AuditOutcome | None, Query(description="Only what was done, or what was not allowed.")] = None,
) -> audit.Wanted:
    """Return which entries are asked for."""
    return audit.Wanted(action, key, object_id, outcome, within.since, within.until)


@router.get(
    "",
    operation_id="listAudit",
    dependencies=[needs(Scope.ADMIN)],
    summary="See who did what, the newest first",
    response_model=AuditPage,
    responses=document(errors.BadCursor),
)
def listing(
    database: DatabaseDep, caller: CallerDep, place: PlaceDep, chosen: Annotated[audit.Wanted, Depends(wanted)]
) -> Response:
    """Show every change and every refusal, by callers, commands and the sweeper. The log only grows."""
    with reading(database) as session:
        found = audit.page(session, tenant_id=caller.tenant_id, wanted=chosen, cursor=place.cursor, limit=place.limit)
    items = [AuditEntry.model_validate(entry) for entry in found.items]
    return answers.json(AuditPage(items=items, next_cursor=found.next_cursor))
