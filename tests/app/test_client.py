"""The client follows a job to its end, walks through pages, and raises what the service raised."""

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app import errors
from app.attributions.outcome import ErrorInfo
from app.attributions.schemas import Attribution
from app.client import Client, NotSucceeded, Patience, Track, UnknownProblem, Unreachable, connection
from app.config import Settings
from app.db import Database
from app.models import Model, Status
from tests.app.live import serving
from tests.app.sounds import Sound
from tests.app.world import SHARES, complete, fail


@pytest.fixture
def api(app: FastAPI) -> Iterator[Client]:
    with serving(app) as url, Client(url) as client:
        yield client


@pytest.fixture
def track(tmp_path: Path) -> Track:
    path = tmp_path / "track.wav"
    path.write_bytes(Sound().encode())
    return Track(path, prompt="slow piano", external_id="render-77", top_k=3)


def test_a_job_is_followed_to_its_end_no_faster_than_told(
    api: Client, track: Track, model: Model, database: Database, settings: Settings
) -> None:
    seen: list[Attribution] = []

    def watch(attribution: Attribution) -> None:
        seen.append(attribution)
        if attribution.status is Status.QUEUED:
            complete(database, settings, attribution.id)

    began = time.monotonic()
    done = api.attribute(track, watch)
    assert time.monotonic() - began >= 1.0
    assert [each.status for each in seen] == [Status.QUEUED, Status.SUCCEEDED]
    assert (done.prompt, done.external_id, done.top_k) == ("slow piano", "render-77", 3)
    assert done.result is not None
    assert done.result.unattributed == pytest.approx(1 - sum(SHARES))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(ErrorInfo("silent", "nothing to hear"), errors.Silent), (ErrorInfo("martian", "from Mars"), UnknownProblem)],
)
def test_a_failed_job_raises_what_it_failed_with(
    api: Client,
    track: Track,
    model: Model,
    database: Database,
    settings: Settings,
    failure: ErrorInfo,
    kind: type[errors.ServiceError],
) -> None:
    def watch(attribution: Attribution) -> None:
        if attribution.status is Status.QUEUED:
            fail(database, settings, attribution.id, failure)

    with pytest.raises(kind, match=failure.detail):
        api.attribute(track, watch)


def test_a_canceled_job_has_no_result(api: Client, track: Track, model: Model) -> None:
    with pytest.raises(NotSucceeded, match="canceled"):
        api.attribute(track, lambda seen: api.cancel(seen.id))


def test_a_refusal_is_raised_as_its_type(api: Client, track: Track, model: Model, tmp_path: Path) -> None:
    with pytest.raises(errors.UnknownMethod):
        api.post(Track(track.path, method="guessing"))
    with pytest.raises(errors.UnknownModel):
        api.post(Track(track.path, model="unheard-of"))
    (tmp_path / "empty.wav").touch()
    with pytest.raises(errors.Empty):
        api.post(Track(tmp_path / "empty.wav"))
    with pytest.raises(errors.NotFound):
        api.get("01980000-0000-7000-8000-000000000000")


def test_pages_are_walked_through(
    api: Client,
    track: Track,
    model: Model,
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "PAGE_ROWS", 2)
    idents = [api.post(track).id for _ in range(3)]
    for ident in idents:
        complete(database, settings, ident)
    assert [each.id for each in api.attributions(status="succeeded")] == idents[::-1]
    rows = list(api.influences(idents[0]))
    assert [row.rank for row in rows] == [1, 2, 3, 4, 5]
    assert [row.attribution.id for row in api.history(rows[0].song.id)] == idents[::-1]
    assert len(list(api.songs())) == 5
    assert [each.name for each in api.models()] == [model.name]


def test_songs_are_imported_and_found(api: Client, model: Model, tmp_path: Path) -> None:
    file = tmp_path / "songs.csv"
    file.write_text("key,title,artist,isrc\nk-1,Night Drive,The Examples,US-SKG-19-12345\nk-2,,Nobody,\n")
    tried = api.import_songs(file, dry_run=True)
    assert (tried.created, len(tried.errors), list(api.songs(q="Night"))) == (1, 1, [])
    assert api.import_songs(file).created == 1
    (song,) = api.songs(isrc="USSKG1912345")
    assert api.song(song.id).title == "Night Drive"
    assert list(api.history(song.id)) == []


def test_readiness_is_asked_for_without_errors(api: Client) -> None:
    assert not api.ready()


def test_nobody_there(track: Track) -> None:
    with Client("http://127.0.0.1:9") as nobody:
        assert not nobody.ready()
        with pytest.raises(Unreachable, match="rootnote up"):
            nobody.post(track)


def test_somebody_else_there(tmp_path: Path, track: Track) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "models").write_text("<html>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever).start()
        with Client(f"http://127.0.0.1:{other.server_port}") as lost:
            with pytest.raises(errors.ServiceError, match="501"):
                lost.post(track)
            with pytest.raises(errors.ServiceError, match="did not answer as"):
                list(lost.models())
        other.shutdown()


class Busy(http.server.BaseHTTPRequestHandler):
    """Answers with the statuses that it was given, one a request, then with readiness of nothing."""

    answers: list[tuple[int, str | None]] = []  # noqa: RUF012  set by each test
    asked: list[tuple[str, str | None]] = []  # noqa: RUF012  verbs, and the keys that came with them

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        self.asked.append((self.command, self.headers.get("Idempotency-Key")))
        status, wait = self.answers.pop(0)
        if not status:
            self.close_connection = True
            return
        body = b'{"items": [], "next_cursor": null}' if status == 200 else b"busy"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if wait is not None:
            self.send_header("Retry-After", wait)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[str]:
    Busy.answers, Busy.asked = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_busy_service_is_asked_again_when_it_says(busy: str) -> None:
    waited: list[float] = []
    Busy.answers = [(503, "3"), (429, "7"), (502, None), (503, "Fri, 31 Dec 1999 23:59:59 GMT"), (200, None)]
    with Client(busy, patience=Patience(30, waited.append)) as client:
        assert list(client.models()) == []
    assert waited == [3, 7, 4, 8]


def test_patience_ends(busy: str) -> None:
    waited: list[float] = []
    Busy.answers = [(503, "20"), (503, "20"), (429, "86400"), (404, "1")]
    with Client(busy, patience=Patience(30, waited.append)) as client:
        for _ in range(3):
            with pytest.raises(errors.ServiceError):
                list(client.models())
    assert (waited, Busy.answers) == ([20], [])


def test_what_may_have_been_done_is_not_done_again(busy: str) -> None:
    waited: list[float] = []
    Busy.answers = [(503, "1"), (429, "1"), (503, "1")]
    with Client(busy, patience=Patience(30, waited.append)) as client:
        for _ in range(2):
            with pytest.raises(errors.ServiceError, match="503"):
                client.import_songs(b"title,artist")
    assert (waited, Busy.asked) == ([1], [("POST", None)] * 3)


def test_a_track_is_sent_again_under_the_same_key(busy: str, track: Track) -> None:
    waited: list[float] = []
    Busy.answers = [(503, "1"), (0, None), (409, "2"), (404, None), (409, None)]
    with Client(busy, patience=Patience(30, waited.append)) as client:
        for _ in range(2):
            with pytest.raises(errors.ServiceError):
                client.post(track)
    keys = [key for _, key in Busy.asked]
    assert (waited, len(set(keys[:4])), len(set(keys))) == ([1, 2, 2], 1, 2)


def test_what_a_song_is_forgotten_for_is_asked_again_under_the_same_key(busy: str) -> None:
    Busy.answers = [(503, "1"), (404, None)]
    with Client(busy, patience=Patience(30, lambda _: None)) as client, pytest.raises(errors.ServiceError):
        client.ask_to_forget("attribution", "song")
    (_, first), (_, second) = Busy.asked
    assert first == second is not None


def test_a_post_whose_answer_was_lost_is_one_attribution(app: FastAPI, track: Track, model: Model) -> None:
    lost = []

    class Losing(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.method == "POST" and not lost:
                lost.append(response.status_code)
                response.read()
                raise httpx.ReadError("the answer was lost", request=request)
            return response

    with serving(app) as url, Client(url, Losing(), patience=Patience(30, lambda _: None)) as client:
        made = client.post(track)
        assert [each.id for each in client.attributions()] == [made.id]
    assert lost == [202]
