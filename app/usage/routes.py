"""The caller's use over HTTP, and the count of its requests."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from app import answers
from app.access.scopes import Scope
from app.db import Database, reading, transaction
from app.deps import CallerDep, DatabaseDep, needs
from app.problems import document
from app.usage import service
from app.usage.schemas import MonthOfUse, Quotas, TenantUsage

router = APIRouter(prefix="/v1/usage", tags=["usage"])

HEARD_SECONDS = 10.0
"""A quota on requests that is set for a tenant without one is heard of after at most so long."""


async def within_quota(request: Request, database: DatabaseDep, caller: CallerDep) -> None:
    """Count a request of a tenant that has a quota on them; raises TooManyRequests. Others cost nothing here."""
    known: dict[str, tuple[bool, float]] = request.app.state.limited
    counted, until = known.get(caller.tenant_id, (False, 0.0))
    if time.monotonic() >= until:
        counted = await run_in_threadpool(_limited, database, caller.tenant_id)
        known[caller.tenant_id] = (counted, time.monotonic() + HEARD_SECONDS)
    if counted:
        await run_in_threadpool(_count, database, caller.tenant_id)


QuotaDep = Annotated[None, Depends(within_quota)]


@router.get(
    "",
    operation_id="getUsage",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See what you use, month by month",
    response_model=TenantUsage,
    responses=document(),
)
def usage(database: DatabaseDep, caller: CallerDep) -> Response:
    """Show jobs, seconds of audio and seconds of computing by month (UTC), and the quotas that hold."""
    with reading(database) as session:
        quota = service.quota(session, tenant_id=caller.tenant_id)
        months = service.months(session, tenant_id=caller.tenant_id)
    allowed = Quotas() if quota is None else Quotas.model_validate(quota)
    return answers.json(TenantUsage(quota=allowed, months=[MonthOfUse.model_validate(each) for each in months]))


def _limited(database: Database, tenant_id: str) -> bool:
    with reading(database) as session:
        return service.limited(session, tenant_id)


def _count(database: Database, tenant_id: str) -> None:
    with transaction(database.unaudited()) as session:
        service.count_request(session, tenant_id)
