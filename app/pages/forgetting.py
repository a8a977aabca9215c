"""A song forgotten from a report: asked for here, shown there."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Response

from app.access.scopes import Scope
from app.counterfactuals import service
from app.counterfactuals.service import NewCounterfactual
from app.db import transaction
from app.deps import CallerDep, IntakeDep, needs
from app.pages.rendering import PageRoute, leading_to, same_origin
from app.usage.routes import within_quota

router = APIRouter(
    route_class=PageRoute, include_in_schema=False, dependencies=[Depends(same_origin), Depends(within_quota)]
)

LARGEST_SEED = 2**31 - 1


async def wanted(
    song_id: Annotated[str, Form(max_length=36)],
    prompt: Annotated[str, Form(max_length=4000)] = "",
    seed: Annotated[int | None, Form(ge=0, le=LARGEST_SEED)] = None,
) -> NewCounterfactual:
    """Read which song is to be forgotten; empty fields count as left out."""
    said = prompt.replace("\x00", "").strip() or None
    return NewCounterfactual(song_id.replace("\x00", ""), said, seed)


@router.post("/attributions/{attribution_id}/counterfactuals", dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)])
def forget(
    intake: IntakeDep,
    caller: CallerDep,
    attribution_id: str,
    request: Annotated[NewCounterfactual, Depends(wanted)],
) -> Response:
    """Queue it and lead back to the report."""
    with transaction(intake.db) as session:
        service.create(
            session,
            tenant_id=caller.tenant_id,
            attribution_id=attribution_id,
            request=request,
            settings=intake.settings,
        )
    return leading_to(f"/attributions/{attribution_id}#forgotten")
