"""What surrounds every request: its id, its measure, and the cap on its body."""

import re
import time
from collections.abc import Callable
from http import HTTPMethod

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from app.errors import TooLarge
from app.problems import respond

_REQUEST_ID = re.compile(r"[\w.:\-]{1,128}", re.ASCII)
_METHODS = frozenset(HTTPMethod)
_log = structlog.get_logger(__name__)

Observer = Callable[[str, str, int, float], None]


class RequestContext:
    """Gives each request an id (the caller's X-Request-ID where it is sound), logs it, and reports how it went.

    `observe(method, route, status, seconds)` is called once a request; `route` is the path's template. Neither it nor
    `method` is ever the caller's own text, so that their number is bounded.
    """

    def __init__(self, app: ASGIApp, observe: Observer) -> None:
        self._app, self._observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        scope["request_id"] = request_id
        status, began = 500, time.perf_counter()

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, receive, tagged)
        finally:
            self._report(scope, status, time.perf_counter() - began)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._observe(method, route, status, seconds)
        facts = {"method": scope["method"], "path": scope["path"], "status": status, "ms": round(seconds * 1000, 1)}
        _log.info("request", request_id=scope["request_id"], **facts)


class BodyLimit:
    """Refuses a body above `limit` bytes, announced or not, without holding more of it than that."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit:
            await respond(Request(scope), self._error())(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                error = self._error()
                raise HTTPException(error.status, error.detail)
            return message

        await self._app(scope, counted, send)

    def _error(self) -> TooLarge:
        return TooLarge(f"a request may have at most {self._limit} bytes")


def _request_id(given: str | None) -> str:
    return given if given and _REQUEST_ID.fullmatch(given) else str(uuid7())
