"""Counterfactuals over HTTP: parse, call the service, show."""

from fastapi import APIRouter, Request, Response, status
from fastapi.responses import StreamingResponse

from app import answers, errors
from app.access.scopes import Scope
from app.attributions.waiting import ENDED
from app.counterfactuals import service
from app.counterfactuals.schemas import Counterfactual, CounterfactualPage, NewCounterfactual
from app.db import reading, transaction
from app.deps import CallerDep, DatabaseDep, IntakeDep, PlaceDep, WriteDep, needs
from app.idempotency.routes import REFUSALS, OnceDep, OnceRoute
from app.models import Take
from app.problems import document
from app.recordings.ranges import RangeNotSatisfiable
from app.recordings.routes import AUDIO, FAILURES, AskedDep, sent
from app.recordings.service import Recording

router = APIRouter(prefix="/v1", tags=["counterfactuals"], route_class=OnceRoute)

RETRY_SECONDS = "2"
_ACCEPTED = {
    "headers": {
        "Location": {"description": "Where the counterfactual is.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds until it is worth asking.", "schema": {"type": "integer"}},
    }
}
_REFUSALS = (
    errors.NotFound,
    service.NotAttributed,
    service.UnknownSong,
    service.NotInTrainingSet,
    service.PromptNeeded,
    errors.QuotaExhausted,
    *REFUSALS,
)


@router.post(
    "/attributions/{attribution_id}/counterfactuals",
    operation_id="createCounterfactual",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
    summary="Let the model forget a song, and make the track again",
    status_code=status.HTTP_202_ACCEPTED,
    responses=document(*_REFUSALS) | {202: _ACCEPTED},
)
def create(
    intake: IntakeDep, once: OnceDep, attribution_id: str, wanted: NewCounterfactual, response: Response
) -> Counterfactual:
    """Queue a short, bounded job: in a copy of its weights the model forgets the song, and beside it a control song.

    The resident model never changes. The same question again is answered with the counterfactual that exists.
    """
    request = service.NewCounterfactual(wanted.song_id, wanted.prompt, wanted.seed, once.id)
    with transaction(intake.db) as session:
        made = service.create(
            session,
            tenant_id=once.tenant_id,
            attribution_id=attribution_id,
            request=request,
            settings=intake.settings,
        )
        shown = Counterfactual.of(made)
    response.headers["Location"] = f"{router.prefix}/counterfactuals/{shown.id}"
    response.headers["Retry-After"] = RETRY_SECONDS
    return shown


@router.get(
    "/attributions/{attribution_id}/counterfactuals",
    operation_id="listCounterfactuals",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See what was tried with a track, the newest first",
    response_model=CounterfactualPage,
    responses=document(errors.NotFound, errors.BadCursor),
)
def listing(database: DatabaseDep, caller: CallerDep, place: PlaceDep, attribution_id: str) -> Response:
    """Show the counterfactuals of an attribution."""
    with reading(database) as session:
        found = service.page(
            session,
            tenant_id=caller.tenant_id,
            attribution_id=attribution_id,
            cursor=place.cursor,
            limit=place.limit,
        )
    shown = [Counterfactual.of(row) for row in found.items]
    return answers.json(CounterfactualPage(items=shown, next_cursor=found.next_cursor))


@router.get(
    "/counterfactuals/{counterfactual_id}",
    operation_id="getCounterfactual",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See how a counterfactual stands",
    response_model=Counterfactual,
    responses=document(errors.NotFound),
)
def get(database: DatabaseDep, caller: CallerDep, counterfactual_id: str) -> Response:
    """Show status, stage and progress; once it has succeeded, what moved and where the recordings are."""
    with reading(database) as session:
        found = service.get(session, tenant_id=caller.tenant_id, counterfactual_id=counterfactual_id)
    shown = Counterfactual.of(found)
    return answers.json(shown, headers=None if shown.status in ENDED else {"Retry-After": RETRY_SECONDS})


@router.post(
    "/counterfactuals/{counterfactual_id}/cancel",
    operation_id="cancelCounterfactual",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
    summary="Cancel a counterfactual",
    responses=document(errors.NotFound),
)
def cancel(session: WriteDep, caller: CallerDep, counterfactual_id: str) -> Counterfactual:
    """Ask for its end: at once while it is queued, when its worker next looks while it runs; else nothing changes."""
    found = service.cancel(session, tenant_id=caller.tenant_id, counterfactual_id=counterfactual_id)
    return Counterfactual.of(found)


@router.get(
    "/counterfactuals/{counterfactual_id}/audio/{take}",
    operation_id="getCounterfactualAudio",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="Hear the track made again",
    response_class=StreamingResponse,
    responses=document(*FAILURES, service.NoTake, RangeNotSatisfiable) | AUDIO,
)
def audio(  # noqa: PLR0913  (a route's parameters are its interface)
    request: Request,
    intake: IntakeDep,
    caller: CallerDep,
    counterfactual_id: str,
    take: Take,
    conditions: AskedDep,
) -> Response:
    """Send one of the recordings as FLAC, or the one range of it that is asked for."""
    with reading(intake.db) as session:
        key, sha256 = service.recording(
            session, tenant_id=caller.tenant_id, counterfactual_id=counterfactual_id, take=take
        )
    return sent(request, intake.storage, Recording(key, sha256), conditions)
