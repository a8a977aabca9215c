"""Rights-holders: who they are, the songs they hold rights in, and what was found of those over time."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.orm import Session

from app.access.gate import Caller
from app.access.scopes import Scope
from app.catalogue import held, history, holders
from app.catalogue.holder_schemas import Holder
from app.catalogue.schemas import Bucket
from app.db import reading
from app.deps import CallerDep, DatabaseDep, needs
from app.errors import NotFound
from app.pages import timeline
from app.pages.rendering import PageRoute, page
from app.statements import service as statements
from app.statements.schemas import Statement
from app.usage.routes import within_quota

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[Depends(within_quota)])

PAGE = 50
STATEMENTS = 24
STEPS: tuple[Bucket, ...] = ("day", "week", "month")


@router.get("/holders", dependencies=[needs(Scope.CATALOGUE_READ)])
def listing(
    request: Request,
    database: DatabaseDep,
    caller: CallerDep,
    q: Annotated[str, Query(max_length=300)] = "",
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """List rights-holders."""
    with reading(database) as session:
        found = holders.page(session, tenant_id=caller.tenant_id, q=q or None, cursor=cursor, limit=PAGE)
        items = [Holder.model_validate(holder) for holder in found.items]
    return page(request, "holders.html", items=items, next_cursor=found.next_cursor, q=q)


@router.get("/holders/{holder_id}", dependencies=[needs(Scope.CATALOGUE_READ, Scope.HOLDER_READ)])
def holder(
    request: Request,
    database: DatabaseDep,
    caller: CallerDep,
    holder_id: str,
    by: Annotated[str, Query()] = "month",
) -> Response:
    """Show a rights-holder, page by page of its songs; to a rights-holder, itself."""
    if caller.holder_id not in {None, holder_id}:
        raise NotFound(f"there is no rights-holder {holder_id}")
    step: Bucket = next((each for each in STEPS if each == by), "month")
    with reading(database) as session:
        shown = _shown(session, caller, holder_id, request.query_params.get("cursor"))
        if caller.may(Scope.ATTRIBUTIONS_READ, Scope.HOLDER_READ):
            points = history.portfolio(session, tenant_id=caller.tenant_id, holder_id=holder_id, bucket=step)
            shown["chart"] = timeline.of_points(points, step)
    return page(request, "holder.html", step=step, steps=STEPS, **shown)


def _shown(session: Session, caller: Caller, holder_id: str, cursor: str | None) -> dict[str, Any]:
    whose = {"tenant_id": caller.tenant_id}
    songs = holders.songs(session, **whose, holder_id=holder_id, cursor=cursor, limit=PAGE)
    stated = []
    if caller.may(Scope.STATEMENTS_READ, Scope.HOLDER_READ):
        wanted = statements.Wanted(holder_id=holder_id)
        stated = [Statement.of(row) for row in statements.page(session, **whose, wanted=wanted, limit=STATEMENTS).items]
    return {
        "holder": Holder.model_validate(holders.get(session, **whose, holder_id=holder_id)),
        "songs": [held.song(song, caller.holder_id) for song in songs.items],
        "linked": caller.may(Scope.CATALOGUE_READ),
        "roles": {song.id: _roles(song, holder_id) for song in songs.items},
        "next_cursor": songs.next_cursor,
        "statements": stated,
        "chart": None,
    }


def _roles(song: Any, holder_id: str) -> str:
    return ", ".join(f"{right.role} {100 * right.share:g} %" for right in song.rights if right.holder_id == holder_id)
