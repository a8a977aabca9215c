"""Training policies and the audit of a model's training set over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app import answers, errors
from app.access.scopes import Scope
from app.catalogue import policies, registry
from app.catalogue.policy_schemas import ModelAudit, PolicyPage, PolicyStatement
from app.db import reading
from app.deps import CallerDep, DatabaseDep, Moment, PlaceDep, needs
from app.problems import document

router = APIRouter(prefix="/v1", tags=["catalogue"])


@router.get(
    "/songs/{song_id}/policies",
    operation_id="listSongPolicies",
    summary="See what was allowed with a song, and when",
    response_model=PolicyPage,
    responses=document(errors.NotFound, errors.BadCursor),
    dependencies=[needs(Scope.CATALOGUE_READ)],
)
def listing(database: DatabaseDep, caller: CallerDep, place: PlaceDep, song_id: str) -> Response:
    """Show every statement of the song's training policy, the newest first; none is ever changed."""
    with reading(database) as session:
        found = policies.page(
            session, tenant_id=caller.tenant_id, song_id=song_id, cursor=place.cursor, limit=place.limit
        )
    items = [PolicyStatement.model_validate(row) for row in found.items]
    return answers.json(PolicyPage(items=items, next_cursor=found.next_cursor))


@router.get(
    "/models/{model}/audit",
    operation_id="auditModel",
    summary="See which songs a model was trained on without permission",
    response_model=ModelAudit,
    responses=document(errors.NotFound, errors.BadCursor),
    dependencies=[needs(Scope.CATALOGUE_READ)],
)
def audit(
    database: DatabaseDep,
    caller: CallerDep,
    place: PlaceDep,
    model: str,
    at: Annotated[Moment | None, Query(description="Another instant than that of its training.")] = None,
) -> Response:
    """Compare a model's training set with the policies that held when it was trained."""
    with reading(database) as session:
        found = registry.get(session, tenant_id=caller.tenant_id, named=model)
        counted = policies.audit(session, model=found, at=at)
        songs = policies.without_permission(session, audit=counted, cursor=place.cursor, limit=place.limit)
        shown = ModelAudit.of(counted, songs.items, songs.next_cursor)
    return answers.json(shown)
