"""The connection itself: the key, one call, its repetition where the service asks for patience, and pages."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

import httpx
from pydantic import BaseModel

from app import errors
from app.client.refusals import Unreachable, asked_to_wait, refusal

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
PAGE_ROWS = 100
PAUSE_SECONDS = 1.0
"""Between two tries where the service does not say how long to wait; doubles with each."""
_PASSING = frozenset({502, 503, 504})
KEY = "Idempotency-Key"

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class Patience:
    """How many seconds a call may wait in all before it is tried again, and how to wait.

    A call is repeated when the service is busy or briefly away, never when it refuses, and only if doing it twice does
    no harm.
    """

    seconds: float = 30.0
    sleep: Callable[[float], None] = time.sleep


class Connection:
    """Calls to a service at `url`, with its key."""

    def __init__(
        self,
        url: str,
        transport: httpx.BaseTransport | None = None,
        key: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._url, self._patience = url, patience or Patience()
        shown = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, transport=transport, headers=shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the service, its database, its broker and a worker are all there; raises nothing."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def call(self, method: str, path: str, **rest: Any) -> httpx.Response:
        """Return a successful answer; raises Unreachable, or the ServiceError that the service names."""
        left, pause = self._patience.seconds, PAUSE_SECONDS
        again = method != "POST" or KEY in rest.get("headers", {})
        while True:
            told = self._once(method, path, **rest)
            if isinstance(told, httpx.Response) and told.is_success:
                return told
            wait = _wait(told, pause, again=again)
            if wait is None or wait > left:
                raise self._failure(told)
            self._patience.sleep(wait)
            left, pause = left - wait, 2 * pause

    def items(self, page: type[Any], path: str, wanted: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Yield the items of all pages of a list."""
        query = {"limit": str(PAGE_ROWS), **(wanted or {})}
        while True:
            found = read(page, self.call("GET", path, params=query))
            yield from found.items
            if found.next_cursor is None:
                return
            query["cursor"] = found.next_cursor

    def _once(self, method: str, path: str, **rest: Any) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(method, path, **rest)
        except httpx.TransportError as error:
            return error

    def _failure(self, told: httpx.Response | httpx.TransportError) -> errors.ServiceError:
        if isinstance(told, httpx.Response):
            return refusal(told)
        failure = Unreachable(f"{self._url}: {told}. Is `rootnote up` running?")
        failure.__cause__ = told
        return failure


def once() -> dict[str, str]:
    """Return the header that lets a call be sent again without being done twice."""
    return {KEY: str(uuid4())}


def _wait(told: httpx.Response | httpx.TransportError, pause: float, *, again: bool) -> float | None:
    """How long to wait before the same call is sent again; None where it must not be, or would be of no use."""
    if isinstance(told, httpx.TransportError):
        # Nobody there is told at once; a connection that was lost on the way is tried again.
        return pause if again and not isinstance(told, httpx.ConnectError) else None
    asked = asked_to_wait(told)
    # What was refused as too much was not done; what failed half-way may have been.
    refused = told.status_code == httpx.codes.TOO_MANY_REQUESTS
    under_way = told.status_code == httpx.codes.CONFLICT and asked is not None
    passing = refused or (again and (told.status_code in _PASSING or under_way))
    return (pause if asked is None else asked) if passing else None


def read(kind: type[Answer], response: httpx.Response) -> Answer:
    """Return an answer as its type; raises ServiceError where it is something else."""
    try:
        return kind.model_validate_json(response.content)
    except ValueError as error:
        raise errors.ServiceError(f"{response.url} did not answer as this version of the client expects") from error
