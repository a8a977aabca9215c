"""The first page: a track comes in here, and the last ones are listed."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, Response, UploadFile
from sqlalchemy.orm import Session

from app import errors
from app.access.gate import Caller
from app.access.scopes import Scope
from app.attributions import service
from app.attributions.intake import Intake, printable, submit
from app.attributions.schemas import Attribution
from app.catalogue import registry
from app.db import reading
from app.deps import CallerDep, DatabaseDep, IntakeDep, needs
from app.errors import ServiceError
from app.models import Method, Status
from app.pages.rendering import PageRoute, leading_to, page, same_origin
from app.usage.routes import within_quota

router = APIRouter(
    route_class=PageRoute, include_in_schema=False, dependencies=[Depends(same_origin), Depends(within_quota)]
)

RECENT = 8
PAGE = 25
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Asked:
    """What the form says beside the track."""

    prompt: str = ""
    model: str = ""
    method: str = Method.INDEX


async def asked(
    prompt: Annotated[str, Form(max_length=4000)] = "",
    model: Annotated[str, Form(max_length=200)] = "",
    method: Annotated[str, Form(max_length=50)] = Method.INDEX,
) -> Asked:
    """Read what the form says beside the track."""
    return Asked(prompt.replace("\x00", ""), model.replace("\x00", ""), method)


@router.get("/", dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.ATTRIBUTIONS_WRITE)])
def upload(request: Request, intake: IntakeDep, caller: CallerDep) -> Response:
    """Show the form and the last attributions."""
    return page(request, "upload.html", **_shown(intake, caller))


@router.post("/", dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)])
def send(
    request: Request,
    intake: IntakeDep,
    caller: CallerDep,
    audio: Annotated[UploadFile | None, File()] = None,
    asked: Annotated[Asked, Depends(asked)] = Asked(),
) -> Response:
    """Take a track in and lead to its attribution; a refusal is shown above the form."""
    try:
        return leading_to(f"/attributions/{_submitted(intake, caller, audio, asked)}")
    except ServiceError as error:
        return page(request, "upload.html", error.status, **_shown(intake, caller, error, asked))


@router.get("/attributions", dependencies=[needs(Scope.ATTRIBUTIONS_READ)])
def listing(
    request: Request,
    database: DatabaseDep,
    caller: CallerDep,
    status: Annotated[str, Query()] = "",
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """List attributions, the newest first."""
    wanted = service.Listing(Status(status) if status in set(Status) else None)
    with reading(database) as session:
        found = service.page(session, tenant_id=caller.tenant_id, listing=wanted, cursor=cursor, limit=PAGE)
        items = [Attribution.of(row) for row in found.items]
    shown: dict[str, Any] = {
        "items": items,
        "next_cursor": found.next_cursor,
        "statuses": list(Status),
        "standing": status,
    }
    return page(request, "attributions.html", **shown)


def _submitted(intake: Intake, caller: Caller, audio: UploadFile | None, asked: Asked) -> str:
    if audio is None or not audio.filename:
        raise errors.MissingFile
    wanted = service.NewAttribution(
        model=asked.model or None,
        method=asked.method,
        prompt=asked.prompt.strip() or None,
        filename=printable(audio.filename),
    )
    chunks = iter(partial(audio.file.read, _CHUNK), b"")
    return submit(intake, chunks, tenant_id=caller.tenant_id, request=wanted).id


def _shown(
    intake: Intake, caller: Caller, error: ServiceError | None = None, asked: Asked | None = None
) -> dict[str, Any]:
    with reading(intake.db) as session:
        models = registry.page(session, tenant_id=caller.tenant_id).items
        recent = _recent(session, caller.tenant_id) if caller.may(Scope.ATTRIBUTIONS_READ) else []
    return {
        "models": list(dict.fromkeys(model.name for model in models)),
        "asked": asked or Asked(model=intake.settings.model_name),
        "methods": list(Method),
        "settings": intake.settings,
        "recent": recent,
        "error": error,
    }


def _recent(session: Session, tenant_id: str) -> list[Attribution]:
    found = service.page(session, tenant_id=tenant_id, listing=service.Listing(), limit=RECENT)
    return [Attribution.of(row) for row in found.items]
