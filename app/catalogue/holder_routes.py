"""The holders of rights over HTTP; they come with the songs that name them."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app import answers, errors
from app.access.scopes import Scope
from app.catalogue import holders
from app.catalogue.holder_schemas import Holder, HolderPage
from app.catalogue.schemas import Song, SongPage
from app.db import reading
from app.deps import CallerDep, DatabaseDep, PlaceDep, ReadDep, needs
from app.problems import document

router = APIRouter(prefix="/v1/holders", tags=["catalogue"])


@router.get(
    "",
    operation_id="listHolders",
    summary="Find rights-holders",
    response_model=HolderPage,
    responses=document(errors.BadCursor),
    dependencies=[needs(Scope.CATALOGUE_READ)],
)
def listing(
    database: DatabaseDep,
    caller: CallerDep,
    place: PlaceDep,
    q: Annotated[str | None, Query(description="Words of the name; each may be unfinished.")] = None,
) -> Response:
    """Show the holders of rights in the catalogue's songs, in the order in which they came."""
    with reading(database) as session:
        found = holders.page(session, tenant_id=caller.tenant_id, q=q, cursor=place.cursor, limit=place.limit)
    items = [Holder.model_validate(holder) for holder in found.items]
    return answers.json(HolderPage(items=items, next_cursor=found.next_cursor))


@router.get(
    "/{holder_id}",
    operation_id="getHolder",
    summary="See a rights-holder",
    responses=document(errors.NotFound),
    dependencies=[needs(Scope.CATALOGUE_READ)],
)
def get(session: ReadDep, caller: CallerDep, holder_id: str) -> Holder:
    """Show who a holder is: its name and its identifiers."""
    return Holder.model_validate(holders.get(session, tenant_id=caller.tenant_id, holder_id=holder_id))


@router.get(
    "/{holder_id}/songs",
    operation_id="listHolderSongs",
    summary="See the songs that someone holds rights in",
    response_model=SongPage,
    responses=document(errors.NotFound, errors.BadCursor),
    dependencies=[needs(Scope.CATALOGUE_READ)],
)
def songs(database: DatabaseDep, caller: CallerDep, place: PlaceDep, holder_id: str) -> Response:
    """Show the songs of a holder with all their rights, in the order of their creation."""
    with reading(database) as session:
        found = holders.songs(
            session, tenant_id=caller.tenant_id, holder_id=holder_id, cursor=place.cursor, limit=place.limit
        )
    items = [Song.model_validate(song) for song in found.items]
    return answers.json(SongPage(items=items, next_cursor=found.next_cursor))
