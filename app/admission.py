"""Who is served now: refused before anything is done where memory, disk or the machine's time would run out."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPMethod
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.errors import ServiceError, Unavailable, UploadStalled
from app.problems import respond
from app.storage import LOCAL

SMALL_BYTES = 64 * 1024
"""Bodies up to this size come in unasked: what a song or an endpoint is described by."""
COPIES = 3
"""How often an upload lies on disks at most: as it came, as it is looked at, and as it is kept."""
LINGER_SECONDS = 10.0
"""How long a refused body is read and thrown away, so that its sender sees the answer and no broken connection."""
AGAIN_SECONDS = (1, 5)
"""Between which times the refused are told to come back: not all of them at once."""
FULL_SECONDS = 60.0
WATCHERS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Who asks how the service is doing is answered most of all when it has too much to do."""
_LEAVE = "rootnote_leave"


class Busy(Unavailable):
    """As many uploads as this process takes at once are under way."""

    type, title = "busy", "Too many uploads are under way"


class Overloaded(Unavailable):
    """As many requests as this process serves at once are under way."""

    type, title = "overloaded", "Too many requests are under way"


class StorageFull(Unavailable):
    """There is too little room left on a disk."""

    type, title = "storage-full", "There is no room for uploads"


@dataclass
class UnderWay:
    """What a process has under way: large bodies and the bytes that they announce, and other requests."""

    uploads: int = 0
    bytes: int = 0
    others: int = 0

    def enter(self, size: int) -> Callable[[], None]:
        """Count a request that announces so many bytes; returns what ends that, once."""
        self._count(1, size)
        within = True

        def leave() -> None:
            nonlocal within
            if within:
                within = False
                self._count(-1, size)

        return leave

    def _count(self, one: int, size: int) -> None:
        if size > SMALL_BYTES:
            self.uploads, self.bytes = self.uploads + one, self.bytes + one * size
        else:
            self.others += one


class Admission:
    """Bounds how many requests are served at once: large bodies, how many bytes they announce, and all others apart.

    So neither keeps the other out. It also bounds how long a large body stalls.
    """

    def __init__(self, app: ASGIApp, settings: Settings, largest: int) -> None:
        self._app, self._settings, self._largest = app, settings, largest
        self._under_way = UnderWay()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"] in WATCHERS:
            await self._app(scope, receive, send)
            return
        size = _announced(scope, self._largest)
        error = self._refusal(size)
        if error is not None:
            await _refuse(error, scope, receive, send)
            return
        leave = scope[_LEAVE] = self._under_way.enter(size)
        try:
            await self._app(scope, self._timed(receive) if size > SMALL_BYTES else receive, send)
        finally:
            leave()

    def _refusal(self, size: int) -> ServiceError | None:
        limits, present = self._settings, self._under_way
        if size <= SMALL_BYTES:
            return Overloaded(retry_after_s=_soon()) if present.others >= limits.max_requests else None
        coming = present.bytes + size
        if self._free() < limits.min_free_bytes + COPIES * coming:
            return StorageFull(retry_after_s=FULL_SECONDS)
        if present.uploads >= limits.max_uploads or coming > limits.max_upload_bytes_under_way:
            return Busy(retry_after_s=_soon())
        return None

    def _free(self) -> int:
        """Bytes that are free where uploads go: the least of the disks."""
        folders = [Path(tempfile.gettempdir())]
        if self._settings.storage_url.startswith(LOCAL):
            folders.append(Path(self._settings.storage_url.removeprefix(LOCAL)))
        return min(shutil.disk_usage(folder).free for folder in folders if folder.is_dir())

    def _timed(self, receive: Receive) -> Receive:
        limit = self._settings.upload_stall_seconds

        async def timed() -> Message:
            try:
                async with asyncio.timeout(limit):
                    return await receive()
            except TimeoutError as error:
                raise HTTPException(UploadStalled.status, f"nothing came for {limit:g} s") from error

        return timed


def leave(scope: Scope) -> None:
    """Make room for another request: this one has done its work, whatever it still waits for."""
    done: Callable[[], None] | None = scope.get(_LEAVE)
    if done is not None:
        done()


def _soon() -> float:
    return random.randint(*AGAIN_SECONDS)  # noqa: S311  not a secret


def _announced(scope: Scope, largest: int) -> int:
    """How many bytes a request may bring: what it announces, or the most there can be."""
    if scope["method"] in {HTTPMethod.GET, HTTPMethod.HEAD}:
        return 0
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return largest
    announced = headers.get("content-length", "")
    return min(int(announced), largest) if announced.isdecimal() else 0


async def _refuse(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once; then let the rest of the body come and go for a while."""
    wait = str(round(error.retry_after_s or 1))
    answer = respond(Request(scope), error, {"Retry-After": wait})
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})
