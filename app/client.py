"""A typed client of the interface. What the service refuses is raised as the same type that it raised.

Client.attribute posts a track and follows it to its end; every other method is one call, or an iterator over pages.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from app import errors
from app.attributions.batch_schemas import Batch, BatchItem, BatchItemPage, BatchReceipt
from app.attributions.schemas import Attribution, AttributionPage, InfluencePage, InfluenceRow, JobError
from app.attributions.waiting import ENDED
from app.catalogue.model_schemas import Model, ModelPage
from app.catalogue.schemas import HistoryPage, HistoryRow, ImportReport, Song, SongPage
from app.models import Status
from app.usage.schemas import TenantUsage

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
POLL_SECONDS = 1.0
PAGE_ROWS = 100
_URN = "urn:rootnote:problem:"

Answer = TypeVar("Answer", bound=BaseModel)
Watch = Callable[[Attribution], None]


class Unreachable(errors.Unavailable):
    """No service answers at the address."""

    type, title = "unreachable", "The service does not answer"


class NotSucceeded(errors.Conflict):
    """The attribution was canceled, or waited too long."""

    type, title = "not-succeeded", "The attribution has no result"


class UnknownProblem(errors.ServiceError):
    """A problem of a type that this version of the client does not know."""

    type, title = "unknown-problem", "The service refused"


@dataclass(frozen=True)
class Track:
    """A recording to attribute, and how; None leaves a choice to the service."""

    path: Path
    prompt: str | None = None
    model: str | None = None
    method: str | None = None
    external_id: str | None = None
    top_k: int | None = None

    def form(self) -> dict[str, str]:
        """Return what is sent beside the audio."""
        named = {} if self.external_id is None else {"external_id": self.external_id}
        return named | {name: str(value) for name, value in self.item().items()}

    def item(self) -> dict[str, Any]:
        """Return what is sent beside the audio and its name."""
        choices = {name: getattr(self, name) for name in ("prompt", "model", "method", "top_k")}
        return {name: value for name, value in choices.items() if value is not None}


class Client:
    """A connection to a service at `url`, under a `key` where it asks for one; use it in a `with`.

    Every call raises Unreachable, or the ServiceError that the service's problem document names.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None, key: str | None = None) -> None:
        self._url = url
        shown = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, transport=transport, headers=shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def attribute(self, track: Track, watch: Watch = lambda _: None) -> Attribution:
        """Post a track and wait for its result; `watch` sees every answer on the way.

        Raises the error that the attribution failed with, or NotSucceeded.
        """
        attribution, pause = self._told(self._post(track))
        watch(attribution)
        while attribution.status not in ENDED:
            time.sleep(pause)
            attribution, pause = self._told(self._call("GET", f"/v1/attributions/{attribution.id}"))
            watch(attribution)
        if attribution.error is not None:
            raise _job_error(attribution.error)
        if attribution.status is not Status.SUCCEEDED:
            raise NotSucceeded(f"the attribution is {attribution.status}")
        return attribution

    def post(self, track: Track) -> Attribution:
        """Post a track; the answer says how its attribution stands."""
        return self._told(self._post(track))[0]

    def get(self, attribution_id: str) -> Attribution:
        """Say how an attribution stands."""
        return _read(Attribution, self._call("GET", f"/v1/attributions/{attribution_id}"))

    def cancel(self, attribution_id: str) -> Attribution:
        """Ask for an attribution's end."""
        return _read(Attribution, self._call("POST", f"/v1/attributions/{attribution_id}/cancel"))

    def reattribute(self, attribution_id: str) -> Attribution:
        """Have a track attributed again with the newest version of its model."""
        return _read(Attribution, self._call("POST", f"/v1/attributions/{attribution_id}/reattribute"))

    def attributions(self, **wanted: str) -> Iterator[Attribution]:
        """Yield attributions, the newest first; `wanted` are the list's own filters."""
        yield from self._items(AttributionPage, "/v1/attributions", wanted)

    def influences(self, attribution_id: str) -> Iterator[InfluenceRow]:
        """Yield the songs behind a track, best first, all that are stored."""
        yield from self._items(InfluencePage, f"/v1/attributions/{attribution_id}/influences")

    def add_to_batch(self, batch: str, tracks: Mapping[str, Track]) -> BatchReceipt:
        """Add tracks, each under a custom id, to a batch; to send one again changes nothing. Raises OSError."""
        items = [
            {"custom_id": custom_id, "file": f"f{place}", **track.item()}
            for place, (custom_id, track) in enumerate(tracks.items())
        ]
        with ExitStack() as opened:
            files = {
                f"f{place}": (track.path.name, opened.enter_context(track.path.open("rb")))
                for place, track in enumerate(tracks.values())
            }
            form = {"batch": batch, "items": json.dumps(items)}
            return _read(BatchReceipt, self._call("POST", "/v1/batches", files=files, data=form))

    def batch(self, batch: str) -> Batch:
        """Say how the items of a batch stand."""
        return _read(Batch, self._call("GET", f"/v1/batches/{batch}"))

    def batch_items(self, batch: str) -> Iterator[BatchItem]:
        """Yield the items of a batch with their attributions, in the order of their custom ids."""
        yield from self._items(BatchItemPage, f"/v1/batches/{batch}/items")

    def usage(self) -> TenantUsage:
        """Say what the caller may use, and used by month."""
        return _read(TenantUsage, self._call("GET", "/v1/usage"))

    def songs(self, **wanted: str) -> Iterator[Song]:
        """Yield the songs of the catalogue; `wanted` are the list's own filters: isrc, artist, q."""
        yield from self._items(SongPage, "/v1/songs", wanted)

    def song(self, song_id: str) -> Song:
        """Return one song."""
        return _read(Song, self._call("GET", f"/v1/songs/{song_id}"))

    def import_songs(self, path: Path, *, dry_run: bool = False) -> ImportReport:
        """Add or change the songs of a CSV file. Raises OSError when it cannot be read."""
        wanted, kind = {"dry_run": str(dry_run).lower()}, {"Content-Type": "text/csv"}
        answer = self._call("POST", "/v1/songs/import", content=path.read_bytes(), params=wanted, headers=kind)
        return _read(ImportReport, answer)

    def history(self, song_id: str) -> Iterator[HistoryRow]:
        """Yield the tracks that a song was found in, the newest first."""
        yield from self._items(HistoryPage, f"/v1/songs/{song_id}/influences")

    def models(self) -> Iterator[Model]:
        """Yield the registered models, the newest first."""
        yield from self._items(ModelPage, "/v1/models")

    def ready(self) -> bool:
        """Whether the service, its database, its broker and a worker are all there; raises nothing."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def _post(self, track: Track) -> httpx.Response:
        with track.path.open("rb") as file:
            files = {"audio": (track.path.name, file)}
            return self._call("POST", "/v1/attributions", files=files, data=track.form())

    def _told(self, response: httpx.Response) -> tuple[Attribution, float]:
        """An attribution, and how long the service says to wait before asking again."""
        told = response.headers.get("Retry-After", "")
        return _read(Attribution, response), float(told) if told.isdecimal() else POLL_SECONDS

    def _items(self, page: type[Any], path: str, wanted: Mapping[str, str] | None = None) -> Iterator[Any]:
        query = {"limit": str(PAGE_ROWS), **(wanted or {})}
        while True:
            found = _read(page, self._call("GET", path, params=query))
            yield from found.items
            if found.next_cursor is None:
                return
            query["cursor"] = found.next_cursor

    def _call(self, method: str, path: str, **rest: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **rest)
        except httpx.TransportError as error:
            raise Unreachable(f"{self._url}: {error}. Is `rootnote up` running?") from error
        if not response.is_success:
            raise _refusal(response)
        return response


def _read(kind: type[Answer], response: httpx.Response) -> Answer:
    try:
        return kind.model_validate_json(response.content)
    except ValueError as error:
        raise errors.ServiceError(f"{response.url} did not answer as this version of the client expects") from error


def _refusal(response: httpx.Response) -> errors.ServiceError:
    """The error that a problem document names."""
    try:
        problem = response.json()
        name, title, detail = str(problem["type"]), str(problem["title"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return errors.ServiceError(f"{response.url} answered {response.status_code} {response.reason_phrase}")
    return _typed(name.removeprefix(_URN), title, detail)


def _job_error(error: JobError) -> errors.ServiceError:
    return _typed(error.type.removeprefix(_URN), error.title, error.detail)


def _typed(slug: str, title: str, detail: str) -> errors.ServiceError:
    known = next((kind for kind in _family(errors.ServiceError) if kind.type == slug), None)
    return known(detail) if known else UnknownProblem(f"{title} ({slug}): {detail}")


def _family(kind: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _family(each)
