"""The HTTP application: its routers, what surrounds a request, and what is opened and closed with it."""

import gc
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute

from app import config, declared, documentation, health, logs, problems
from app.access import routes as access
from app.access.audit import Refusals
from app.access.gate import Gate
from app.acting import NOBODY
from app.admission import Admission
from app.alerts import routes as alerts
from app.attributions import batch_routes as batches
from app.attributions import routes as attributions
from app.attributions.batch_schemas import NewItem
from app.catalogue import holder_routes as holders
from app.catalogue import model_routes as models
from app.catalogue import policy_routes as policies
from app.catalogue import routes as catalogue
from app.config import Settings
from app.counterfactuals import routes as counterfactuals
from app.db import engines
from app.deps import sound_address
from app.disputes import routes as disputes
from app.errors import MethodNotAllowed
from app.idempotency.digest import DigestBodies
from app.leaving import leave_with_parent, noticed
from app.metrics.ended import EndedJobs
from app.metrics.requests import RequestMetrics
from app.metrics.together import began
from app.middleware import BodyLimit, RequestContext
from app.pages import routes as pages
from app.recordings import routes as recordings
from app.recordings.waveforms import Waveforms
from app.reports import routes as reports
from app.statements import routes as statements
from app.storage import Storage
from app.usage import routes as usage
from app.webhooks import routes as webhooks

COUNTED = (
    access.router,
    *(attributions.router, batches.router, disputes.router, recordings.router),
    alerts.router,
    webhooks.router,
    *(catalogue.router, holders.router, models.router, usage.router),
    *(reports.router, counterfactuals.router),
    *(policies.router, statements.router),
)
ROUTERS = (*COUNTED, *pages.ROUTERS, health.router)

# What a multipart form may hold beside the track.
ENVELOPE_BYTES = 64 * 1024

SWITCH_SECONDS = 0.001
"""How long one thread's Python may keep all others waiting; the default of 5 ms is more than most requests take."""

_DESCRIPTION = """Send a track that a generative music model made; learn which songs of its training set influenced it
most, found by machine unlearning, and follow every song's influence over time.

Failing answers are problem documents (RFC 9457) with a stable `type`. Lists are read by cursor: pass `next_cursor` as
`cursor` until it is null. Every answer has an `X-Request-ID`, the caller's own where one was sent.

A key is sent as `Authorization: Bearer rn_…`; each call says which scope it needs, and `admin` allows all of them."""


class Api(FastAPI):
    """The application; its description of itself has the problem document."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            template = "#/components/schemas/{model}"
            problem = problems.Problem.model_json_schema(ref_template=template)
            item = NewItem.model_json_schema(ref_template=template)
            document["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem, "NewItem": item}
            declared.describe(document, self.routes)
        return super().openapi()


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application; without settings, with those of the environment."""
    if settings is None:
        settings = config.settings()
        logs.configure(settings)
    app = Api(
        title="Rootnote",
        version=version("rootnote"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(sound_address)],
    )
    app.state.settings, app.state.metrics = settings, RequestMetrics()
    app.state.leaving = threading.Event()
    app.state.limited, app.state.waveforms = {}, Waveforms()
    for router in ROUTERS:
        app.include_router(router, dependencies=[Depends(usage.within_quota)] if router in COUNTED else None)
    documentation.install(app)
    pages.install(app)
    declared.check(app.routes)
    problems.install(app)
    app.exception_handler(HTTPStatus.METHOD_NOT_ALLOWED)(_wrong_method)
    app.add_middleware(DigestBodies)
    app.add_middleware(BodyLimit, limit=settings.max_upload_bytes + ENVELOPE_BYTES)
    app.add_middleware(Admission, settings=settings, largest=settings.max_upload_bytes + ENVELOPE_BYTES)
    app.add_middleware(RequestContext, observe=app.state.metrics.observe)
    return app


async def _wrong_method(request: Request, _: HTTPException) -> Response:
    # The framework names the methods of the first route alone, and an address often has several.
    routes = (route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute))
    here = [route for route in routes if route.path_regex.match(request.url.path)]
    # Of `/songs/import` and `/songs/{song_id}` the one that says more is meant.
    meant = min((route.path for route in here), key=lambda path: path.count("{"), default=None)
    allowed = sorted(set().union(*(route.methods or () for route in here if route.path == meant)))
    return problems.respond(request, MethodNotAllowed(), {"Allow": ", ".join(allowed)})


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    leave_with_parent()
    app.state.storage = Storage.open(settings.storage_url)
    system = engines(settings)
    app.state.database = system.on_behalf_of(NOBODY)
    app.state.gate, app.state.refusals = Gate(system, settings), Refusals(system)
    app.state.ended = EndedJobs(began())
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what is there by now stays, and searching it for garbage stops every request for a tenth of a second
    try:
        with noticed(app.state.leaving):
            yield
    finally:
        gc.unfreeze()
        app.state.database.close()
