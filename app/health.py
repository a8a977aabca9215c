"""Is it alive, is it ready, how is it doing: for whoever runs the service."""

from dataclasses import dataclass, field
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict

from app import errors, migrate, problems, queue
from app.config import Settings
from app.db import Database, reading
from app.deps import PUBLIC, SettingsDep, StorageDep, SystemDep
from app.metrics.standing import Sources, render, served, workers_alive
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
    """Every part that is needed to serve answers; `models`: how many workers hold each and were seen lately."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ready", "models": {"starter": 1}}})

    status: Literal["ready"] = "ready"
    models: dict[str, int]


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Is every part there that is needed to serve",
    response_model=Readiness,
    responses=problems.document(NotReady),
)
def readyz(request: Request, database: SystemDep, storage: StorageDep, settings: SettingsDep) -> Readiness | Response:
    """Ask database, migrations, workers, broker, storage and disk; `missing` names what is not as it must be.

    A model without a worker is shown with 0: its jobs are taken and wait. With no worker at all nothing is ready.
    """
    found = _Found()
    found.ask(database, settings)
    if not queue.reachable(settings):
        found.missing.append("broker")
    found.look_at(storage, settings)
    if not found.missing:
        return Readiness(models=found.models)
    error = NotReady(f"no answer from: {', '.join(found.missing)}")
    return problems.respond(request, error, missing=found.missing, models=found.models)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Figures for Prometheus",
    response_class=PlainTextResponse,
)
def metrics(request: Request, database: SystemDep, storage: StorageDep, settings: SettingsDep) -> Response:
    """Show requests, refusals, queue, ends of jobs, workers, connections and room; docs/runbook.md explains them."""
    state = request.app.state
    sources = Sources(state.metrics, state.ended, database, storage, settings)
    return Response(render(sources), media_type=CONTENT_TYPE_LATEST)


@dataclass
class _Found:
    """What is missing, and how many workers hold each model."""

    missing: list[str] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=dict)

    def ask(self, database: Database, settings: Settings) -> None:
        """Ask the database for its schema, and for the workers where that is the one that is expected."""
        try:
            if not migrate.is_current(database):
                self.missing.append("migrations")
                return
            with reading(database) as session:
                self.models = served(session, settings)
                if not workers_alive(session, settings):
                    self.missing.append("worker")
        except errors.DatabaseUnavailable:
            self.missing.append("database")

    def look_at(self, storage: Storage, settings: Settings) -> None:
        """Ask the storage, and how much room there is."""
        try:
            storage.check()
        except errors.StorageUnavailable:
            self.missing.append("storage")
        free = storage.free_bytes()
        if free is not None and free < settings.min_free_bytes:
            self.missing.append("disk")
