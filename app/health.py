"""Is it alive, is it ready, how is it doing: for whoever runs the service."""

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict

from app import errors, problems, queue
from app.config import Settings
from app.db import Database, reading
from app.deps import PUBLIC, DatabaseDep, SettingsDep, StorageDep
from app.metrics import RequestMetrics, render, workers_alive
from app.storage import Storage

router = APIRouter(tags=["service"], dependencies=[PUBLIC])


class NotReady(errors.Unavailable):
    """Some part that is needed to serve does not answer."""

    type, title = "not-ready", "The service is not ready"


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"] = "ok"


@router.get("/healthz", operation_id="getHealth", summary="Is the process alive")
async def healthz() -> Health:
    """Answer without asking any other part."""
    return Health()


class Readiness(BaseModel):
    """Every part that is needed to serve answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ready"}})

    status: Literal["ready"] = "ready"


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Is every part there that is needed to serve",
    response_model=Readiness,
    responses=problems.document(NotReady),
)
def readyz(request: Request, database: DatabaseDep, storage: StorageDep, settings: SettingsDep) -> Readiness | Response:
    """Ask the database, the broker, the storage and the table of workers; `missing` names what did not answer."""
    missing = [*_silent_parts(database, settings), *_silent_storage(storage)]
    if not missing:
        return Readiness()
    return problems.respond(request, NotReady(f"no answer from: {', '.join(missing)}"), missing=missing)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Figures for Prometheus",
    response_class=PlainTextResponse,
)
def metrics(request: Request, database: DatabaseDep, settings: SettingsDep) -> Response:
    """Show requests by route, status and time, the queue's depth, the age of its oldest, and the workers alive."""
    requests: RequestMetrics = request.app.state.metrics
    return Response(render(requests, database, settings), media_type=CONTENT_TYPE_LATEST)


def _silent_parts(database: Database, settings: Settings) -> Iterator[str]:
    try:
        with reading(database) as session:
            workers = workers_alive(session, settings)
    except errors.DatabaseUnavailable:
        yield "database"
    else:
        if not workers:
            yield "worker"
    if not queue.reachable(settings):
        yield "broker"


def _silent_storage(storage: Storage) -> Iterator[str]:
    try:
        storage.check()
    except errors.StorageUnavailable:
        yield "storage"
