"""Attributions over HTTP: parse, call the service, show."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import IO, Annotated

from fastapi import APIRouter, Depends, File, Header, Query, Request, Response, status
from fastapi.concurrency import run_in_threadpool

from app import answers, errors
from app.access.scopes import Scope
from app.admission import Busy, StorageFull, leave
from app.attributions import pressure, service, standing
from app.attributions.influence_schemas import InfluencePage, InfluenceRow
from app.attributions.intake import Intake, printable, submit
from app.attributions.pressure import QueueFull, TooManyWaiting
from app.attributions.schemas import Attribution, AttributionPage, NewTrack, Result
from app.attributions.waiting import ENDED, preferred_wait, until_ended
from app.db import Database, reading, transaction
from app.deps import CallerDep, Cursor, DatabaseDep, IntakeDep, Moment, PlaceDep, WriteDep, needs
from app.idempotency.routes import REFUSALS, OnceDep, OnceRoute
from app.models import Status
from app.problems import document
from app.retention.holding import claim

router = APIRouter(prefix="/v1/attributions", tags=["attributions"], route_class=OnceRoute)

_CHUNK = 1024 * 1024
_REFUSALS = (
    errors.MissingFile,
    errors.UnknownModel,
    errors.UnknownMethod,
    errors.Empty,
    errors.Truncated,
    errors.TooManyChannels,
    errors.BadSampleRate,
    errors.TooShort,
    errors.TooLong,
    errors.TooLarge,
    errors.NotAudio,
    errors.TooManyRequests,
    errors.QuotaExhausted,
    *REFUSALS,
    errors.UploadStalled,
    Busy,
    StorageFull,
    QueueFull,
    TooManyWaiting,
)
_ACCEPTED = {
    "headers": {
        "Location": {"description": "Where the attribution is.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds until it is worth asking.", "schema": {"type": "integer"}},
    }
}
Prefer = Annotated[str | None, Header(description="`wait=N`: answer when it has ended, or after N ≤ 60 seconds.")]


@dataclass(frozen=True)
class Asked:
    """Under which conditions an attribution is to be shown: seconds to wait for its end, ETags already known."""

    wait: int
    etags: frozenset[str]


async def asked(
    prefer: Prefer = None,
    if_none_match: Annotated[str, Header(description="An ETag of an earlier answer.")] = "",
) -> Asked:
    """Read the conditions of a request; weak ETags count as the strong ones that they name."""
    known = (each.strip().removeprefix("W/") for each in if_none_match.split(","))
    return Asked(preferred_wait(prefer), frozenset(filter(None, known)))


async def wanted_listing(
    status: Annotated[Status | None, Query(description="Only those that stand so.")] = None,
    model: Annotated[str | None, Query(description="Only those of the model of this name.")] = None,
    created_after: Annotated[Moment | None, Query(description="Only those made after this instant.")] = None,
) -> service.Listing:
    """Return which attributions are asked for."""
    return service.Listing(status, model, created_after)


@router.post(
    "",
    operation_id="createAttribution",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
    summary="Send a track to find the songs that influenced it",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Attribution,
    responses=document(*_REFUSALS, errors.Unavailable) | {202: _ACCEPTED},
)
async def create(
    request: Request,
    form: Annotated[NewTrack, File()],
    intake: IntakeDep,
    once: OnceDep,
    prefer: Prefer = None,
) -> Response:
    """Keep the track and queue its attribution; what its header shows to be wrong is refused at once.

    The answer is always 202, even where `Prefer: wait=N` made it wait for the end.
    """
    if form.audio is None:
        raise errors.Empty("the request has no body") if _bodiless(request) else errors.MissingFile
    wanted = service.NewAttribution(
        model=form.model,
        method=form.method,
        prompt=form.prompt,
        seed=form.seed,
        external_id=form.external_id,
        top_k=form.top_k,
        filename=printable(form.audio.filename),
        ident=once.id,
        expires_in_s=form.expires_in,
    )
    shown = await run_in_threadpool(_submit, intake, once.tenant_id, form.audio.file, wanted)
    leave(request.scope)  # what it waits for now takes no room
    waiting = preferred_wait(prefer)
    if waiting:
        shown = await until_ended(partial(_look, intake.db, once.tenant_id, shown.id), waiting, request)
    headers = {"Location": f"{router.prefix}/{shown.id}", "Retry-After": "1"} | _applied(waiting)
    return _json(shown, headers, status.HTTP_202_ACCEPTED)


@router.get(
    "",
    operation_id="listAttributions",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="List attributions, the newest first",
    response_model=AttributionPage,
    responses=document(errors.BadCursor),
)
def listing(
    database: DatabaseDep,
    caller: CallerDep,
    place: PlaceDep,
    wanted: Annotated[service.Listing, Depends(wanted_listing)],
) -> Response:
    """Show the caller's attributions by status, model and time."""
    with reading(database) as session:
        found = service.page(
            session, tenant_id=caller.tenant_id, listing=wanted, cursor=place.cursor, limit=place.limit
        )
    shown = [Attribution.of(row) for row in found.items]
    return answers.json(AttributionPage(items=shown, next_cursor=found.next_cursor))


@router.get(
    "/{attribution_id}",
    operation_id="getAttribution",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See how an attribution stands",
    response_model=Attribution,
    responses=document(errors.NotFound) | {304: {"description": "Nothing has changed since the given ETag."}},
)
async def get(
    request: Request,
    attribution_id: str,
    database: DatabaseDep,
    caller: CallerDep,
    conditions: Annotated[Asked, Depends(asked)],
) -> Response:
    """Show status, stage and progress; once it has succeeded, how the result was found; once it has failed, why."""
    look = partial(_look, database, caller.tenant_id, attribution_id)
    shown = await until_ended(look, conditions.wait, request)
    headers = _applied(conditions.wait) | ({} if shown.status in ENDED else {"Retry-After": "1"})
    return _json(shown, headers, unless=conditions.etags)


@router.get(
    "/{attribution_id}/influences",
    operation_id="listInfluences",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See the songs that influenced a track, best first",
    response_model=InfluencePage,
    responses=document(errors.NotFound, errors.BadCursor),
)
def influences(
    database: DatabaseDep,
    caller: CallerDep,
    attribution_id: str,
    cursor: Cursor = None,
    limit: Annotated[int | None, Query(ge=1, le=200, description="Left out: the attribution's `top_k`.")] = None,
) -> Response:
    """Show a part of the ranking. All ranked songs are kept: `next_cursor` leads beyond `top_k`."""
    with reading(database) as session:
        row, found = service.ranking(
            session, tenant_id=caller.tenant_id, attribution_id=attribution_id, cursor=cursor, limit=limit
        )
    shown = InfluencePage(
        attribution_id=row.id,
        status=Status(row.status),
        result=Result.of(row),
        items=[InfluenceRow.of(influence) for influence in found.items],
        next_cursor=found.next_cursor,
    )
    return answers.json(shown)


@router.post(
    "/{attribution_id}/cancel",
    operation_id="cancelAttribution",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
    summary="Cancel an attribution",
    responses=document(errors.NotFound),
)
def cancel(session: WriteDep, caller: CallerDep, attribution_id: str) -> Attribution:
    """Ask for its end: at once while it is queued, when its worker next looks while it runs; else nothing changes."""
    return Attribution.of(service.cancel(session, tenant_id=caller.tenant_id, attribution_id=attribution_id))


@router.post(
    "/{attribution_id}/reattribute",
    operation_id="reattribute",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
    summary="Attribute a track again with the newest version of its model",
    status_code=status.HTTP_202_ACCEPTED,
    responses=document(errors.NotFound, errors.AudioMissing, errors.UnknownModel, *REFUSALS) | {202: _ACCEPTED},
)
def reattribute(
    intake: IntakeDep,
    once: OnceDep,
    attribution_id: str,
    response: Response,
    model: Annotated[str | None, Query(description="The name of another model.", max_length=200)] = None,
) -> Attribution:
    """Queue the stored track anew, with its prompt, method and names; the earlier report stays as it is."""
    pressure.check(intake.db, tenant_id=once.tenant_id, settings=intake.settings)
    with transaction(intake.db) as session:
        anew = service.Anew(model, once.id)
        found = service.repeat(
            session, tenant_id=once.tenant_id, attribution_id=attribution_id, settings=intake.settings, anew=anew
        )
        claim(session, intake.storage, [found.audio_key])
        shown = Attribution.of(found)
    response.headers["Location"], response.headers["Retry-After"] = f"{router.prefix}/{shown.id}", "1"
    return shown


def _submit(intake: Intake, tenant_id: str, file: IO[bytes], wanted: service.NewAttribution) -> Attribution:
    return Attribution.of(submit(intake, _chunks(file), tenant_id=tenant_id, request=wanted))


def _look(database: Database, tenant_id: str, attribution_id: str) -> Attribution:
    return Attribution.of(standing.look(database, tenant_id=tenant_id, attribution_id=attribution_id))


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(partial(file.read, _CHUNK), b"")


def _bodiless(request: Request) -> bool:
    return request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers


def _applied(waiting: int) -> dict[str, str]:
    return {"Preference-Applied": f"wait={waiting}"} if waiting else {}


def _json(
    shown: Attribution, headers: dict[str, str], code: int = status.HTTP_200_OK, unless: frozenset[str] = frozenset()
) -> Response:
    body = shown.model_dump_json().encode()
    etag = f'"{blake2b(body, digest_size=16).hexdigest()}"'
    if unless & {etag, "*"}:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers | {"ETag": etag})
    return Response(body, code, headers | {"ETag": etag}, "application/json")
