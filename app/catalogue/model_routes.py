"""The registered models over HTTP; registering is a command, because a route would read any folder it is told."""

from fastapi import APIRouter

from app import errors
from app.access.scopes import Scope
from app.builds import service as builds
from app.catalogue import registry
from app.catalogue.model_schemas import Model, ModelPage
from app.deps import CallerDep, PlaceDep, ReadDep, needs
from app.problems import document

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get(
    "",
    operation_id="listModels",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.CATALOGUE_READ)],
    summary="List the registered models",
    responses=document(errors.BadCursor),
)
def listing(session: ReadDep, caller: CallerDep, place: PlaceDep) -> ModelPage:
    """Show every registration, the newest first; a name stands for its newest."""
    found = registry.page(session, tenant_id=caller.tenant_id, cursor=place.cursor, limit=place.limit)
    indexed = registry.indexed(session, models=[model.id for model in found.items])
    items = [Model.of(model, indexed.get(model.id, 0)) for model in found.items]
    return ModelPage(items=items, next_cursor=found.next_cursor)


@router.get(
    "/{model}",
    operation_id="getModel",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.CATALOGUE_READ)],
    summary="See a registered model",
    responses=document(errors.NotFound),
)
def get(session: ReadDep, caller: CallerDep, model: str) -> Model:
    """Show a model by its id, or the newest of a name, and how far an index is that is being built for it."""
    try:
        found = registry.get(session, tenant_id=caller.tenant_id, named=model)
    except errors.NotFound:
        return Model.coming(builds.standing(session, tenant_id=caller.tenant_id, named=model))
    building = builds.under_way(session, tenant_id=caller.tenant_id, name=found.name)
    return Model.of(found, registry.indexed(session, models=[found.id]).get(found.id, 0), building)
