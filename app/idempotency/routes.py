"""How a route takes part: its router has `OnceRoute`, it asks for `OnceDep`, what it creates gets that one's `id`."""

import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException

from app import errors
from app.config import Settings
from app.db import Database, transaction
from app.deps import CallerDep, DatabaseDep, SettingsDep
from app.idempotency import service
from app.idempotency.digest import fingerprint
from app.idempotency.holding import Holding
from app.models import new_id

REPLAYED = "Idempotency-Replayed"
KEPT_HEADERS = ("content-type", "location", "retry-after", "etag", "preference-applied")
REFUSALS = (service.BadIdempotencyKey, service.IdempotencyKeyReused, service.IdempotencyKeyInUse)
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_KEY, _BARE = re.compile(r"[\x20-\x7e]{1,255}"), re.compile(r"[\x21\x23-\x7e][\x21-\x7e]{0,254}")
_FUNCTION_STACK = "fastapi_function_astack"

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A fresh word, such as a UUID, for this request. Sent again within a day, with the same content,"
        " it has no further effect and the same answer, marked by `Idempotency-Replayed: true`.",
    ),
]


@dataclass(frozen=True)
class Once:
    """A request to carry out; what it creates gets this `id`, under which it may be there from an attempt before."""

    tenant_id: str
    id: str


class Replay(Exception):
    """The request was answered before."""

    def __init__(self, answer: service.Answered) -> None:
        super().__init__(answer.status)
        self.answer = answer


class OnceRoute(APIRoute):
    """A route that keeps the answer to a request with an Idempotency-Key, and gives it again."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Return what handles a request."""
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            try:
                async with AsyncExitStack() as stack:
                    # Where the framework ends a dependency's `yield`: the commit must come before its answer is kept.
                    request.scope[_FUNCTION_STACK] = stack
                    response = await handle(request)
            except Replay as known:
                return Response(known.answer.body, known.answer.status, known.answer.headers | {REPLAYED: "true"})
            except BaseException as error:
                await _leave(request, unsure=not _refused(error))
                raise
            await _finish(request, response)
            return response

        return once


async def begin(request: Request, tenant_id: str, database: Database, settings: Settings) -> Once:
    """Claim the request's key, if it has one, once its body has been read.

    Raises Replay, BadIdempotencyKey, IdempotencyKeyReused, IdempotencyKeyInUse.
    """
    given = request.headers.get("idempotency-key")
    if given is None:
        return Once(tenant_id, new_id())
    asked = service.Asked(tenant_id, key_of(given), fingerprint(request.scope))
    database = database.unaudited()
    held = await run_in_threadpool(_claim, database, asked, settings)
    if isinstance(held, service.Answered):
        raise Replay(held)
    request.state.once = Holding(database, held, settings)
    return Once(tenant_id, held.made_id)


async def _once(
    request: Request, caller: CallerDep, database: DatabaseDep, settings: SettingsDep, _: KeyHeader = None
) -> Once:
    return await begin(request, caller.tenant_id, database, settings)


OnceDep = Annotated[Once, Depends(_once)]


def key_of(given: str) -> str:
    """Return the key in a header: a structured field's string, or the bare word; raises BadIdempotencyKey."""
    quoted = _QUOTED.fullmatch(given)
    key = re.sub(r"\\(.)", r"\1", quoted.group(1)) if quoted else given
    if not (_KEY if quoted else _BARE).fullmatch(key):
        raise service.BadIdempotencyKey("an Idempotency-Key has from 1 to 255 printable ASCII characters")
    return key


def _claim(database: Database, asked: service.Asked, settings: Settings) -> service.Claim | service.Answered:
    with transaction(database) as session:
        return service.claim(session, asked, settings)


def _refused(error: BaseException) -> bool:
    """Whether an error says that nothing was made."""
    if isinstance(error, errors.ServiceError):
        return error.status < 500
    return isinstance(error, RequestValidationError) or (isinstance(error, HTTPException) and error.status_code < 500)


async def _finish(request: Request, response: Response) -> None:
    if response.status_code >= 400:
        await _leave(request, unsure=response.status_code >= 500)
        return
    await _end(request, lambda session, held: service.finish(session, held, _kept(response)))


def _kept(response: Response) -> service.Answered:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return service.Answered(response.status_code, headers, bytes(response.body).decode())


async def _leave(request: Request, *, unsure: bool) -> None:
    await _end(request, lambda session, held: service.leave(session, held, unsure=unsure))


async def _end(request: Request, write: Callable[[Session, service.Claim], None]) -> None:
    holding: Holding | None = getattr(request.state, "once", None)
    if holding is not None:
        await holding.end(write)
