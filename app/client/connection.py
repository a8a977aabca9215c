"""The connection itself: the key, one call, its repetition where the service asks for patience, and pages."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from app import errors
from app.client.refusals import Unreachable, asked_to_wait, refusal

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
PAGE_ROWS = 100
PAUSE_SECONDS = 1.0
"""Between two tries where the service does not say how long to wait; doubles with each."""
_PASSING = frozenset({429, 502, 503, 504})
_KEY = "Idempotency-Key"

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
        again = method != "POST" or _KEY in rest.get("headers", {})
        while True:
            response = self._once(method, path, **rest)
            if response.is_success:
                return response
            asked = asked_to_wait(response)
            wait = pause if asked is None else asked
            # What was refused as too much was not done; what failed half-way may have been.
            harmless = again or response.status_code == httpx.codes.TOO_MANY_REQUESTS
            if response.status_code not in _PASSING or not harmless or wait > left:
                raise refusal(response)
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

    def _once(self, method: str, path: str, **rest: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **rest)
        except httpx.TransportError as error:
            raise Unreachable(f"{self._url}: {error}. Is `rootnote up` running?") from error


def read(kind: type[Answer], response: httpx.Response) -> Answer:
    """Return an answer as its type; raises ServiceError where it is something else."""
    try:
        return kind.model_validate_json(response.content)
    except ValueError as error:
        raise errors.ServiceError(f"{response.url} did not answer as this version of the client expects") from error
