"""The registered models and what each was trained on, in short."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.access.scopes import Scope
from app.catalogue import registry
from app.catalogue.model_schemas import Model
from app.db import reading
from app.deps import CallerDep, DatabaseDep, needs
from app.pages.rendering import PageRoute, page
from app.usage.routes import within_quota

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[Depends(within_quota)])

PAGE = 20


@router.get("/models", dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.CATALOGUE_READ)])
def models(
    request: Request, database: DatabaseDep, caller: CallerDep, cursor: Annotated[str | None, Query()] = None
) -> Response:
    """List registrations, the newest first."""
    with reading(database) as session:
        found = registry.page(session, tenant_id=caller.tenant_id, cursor=cursor, limit=PAGE)
        indexed = registry.indexed(session, models=[model.id for model in found.items])
        items = [Model.of(model, indexed.get(model.id, 0)) for model in found.items]
    return page(request, "models.html", items=items, next_cursor=found.next_cursor)
