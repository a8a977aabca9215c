"""Before memory, disk, connections or patience run out, callers are told to come back; and what they send is let go."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime

import httpx
import psutil
import pytest
from sqlalchemy import text

from app import admission, supervisor
from app.attributions import pressure
from app.db import engines, reading, transaction
from app.errors import DatabaseBusy
from app.leaving import noticed
from app.main import create_app
from app.models import Attribution, Tenant
from tests.app.here import client_of
from tests.app.live import serving
from tests.app.sounds import Sound
from tests.app.world import rows
from tests.processes import environment, until

URL = "/v1/attributions"
TRACK = Sound().encode()
LARGE = Sound(seconds=20.0, rate=48_000, channels=2).encode()


def slug(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("urn:rootnote:problem:")


def post(client, audio=LARGE, **fields):
    return client.post(URL, files={"audio": ("track.wav", audio)}, data=fields)


class Slow:
    """A form that stops in the middle until it is told to go on."""

    def __init__(self, audio: bytes) -> None:
        request = httpx.Request("POST", "http://x/", files={"audio": ("track.wav", audio)})
        self.body, self.headers = request.read(), dict(request.headers)
        self.begun, self.go_on = threading.Event(), threading.Event()
        del self.headers["host"]

    def send(self, url):
        return httpx.post(url + URL, content=iter(self), headers=self.headers, timeout=60)

    def __iter__(self):
        half = len(self.body) // 2
        yield self.body[:half]
        self.begun.set()
        assert self.go_on.wait(30)
        yield self.body[half:]


def test_as_many_uploads_come_in_as_there_is_room_for_and_the_next_is_told_when(model, database_settings):
    few = database_settings.model_copy(update={"max_uploads": 2})
    api = create_app(few)
    with serving(api) as url, httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(2) as pool:
        slow = [Slow(LARGE) for _ in range(2)]
        sent = [pool.submit(each.send, url) for each in slow]
        assert all(each.begun.wait(30) for each in slow)
        refused = post(client)
        assert slug(refused) == (503, "busy")
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        assert post(client, TRACK[:60_000]).status_code != 503  # what is small needs no room
        assert client.get("/v1/models").status_code == 200
        for each in slow:
            each.go_on.set()
        assert [each.result().status_code for each in sent] == [202, 202]
        assert post(client).status_code == 202


def test_as_many_requests_are_served_as_there_is_room_for_beside_uploads_and_watchers(model, database_settings):
    few = database_settings.model_copy(update={"max_requests": 2})
    with (
        serving(create_app(few)) as url,
        httpx.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        slow = [Slow(TRACK[:40_000]) for _ in range(2)]
        sent = [pool.submit(each.send, url) for each in slow]
        assert all(each.begun.wait(30) for each in slow)
        until(lambda: client.get("/v1/models").status_code == 503, 20.0)
        refused = client.get("/v1/models")
        assert slug(refused) == (503, "overloaded")
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        assert client.get("/healthz").status_code == client.get("/metrics").status_code == 200
        assert 'rootnote_refusals_total{type="overloaded"}' in client.get("/metrics").text
        assert post(client).status_code == 202
        for each in slow:
            each.go_on.set()
        assert all(each.result().status_code != 503 for each in sent)
        assert client.get("/v1/models").status_code == 200


def test_those_who_wait_for_an_end_leave_room_for_others(model, database_settings):
    one = database_settings.model_copy(update={"max_requests": 1})
    with (
        serving(create_app(one)) as url,
        ThreadPoolExecutor(2) as pool,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        made = f"{url}{URL}/{post(client, TRACK).json()['id']}"
        wait = {"Prefer": "wait=4"}
        began = time.monotonic()
        waiting = []
        for _ in range(2):
            waiting.append(pool.submit(httpx.get, made, headers=wait, timeout=30))
            time.sleep(0.5)
        assert client.get("/v1/models").status_code == 200
        assert time.monotonic() - began < 4.0
        assert [each.result().status_code for each in waiting] == [200, 200]


def test_bytes_that_are_announced_need_room_too(model, database_settings):
    limits = {"max_upload_bytes": len(LARGE) + 1_000, "max_upload_bytes_under_way": int(1.5 * len(LARGE))}
    with serving(create_app(database_settings.model_copy(update=limits))) as url, ThreadPoolExecutor(1) as pool:
        slow = Slow(LARGE)
        sent = pool.submit(slow.send, url)
        assert slow.begun.wait(30)
        assert slug(post(httpx.Client(base_url=url))) == (503, "busy")
        slow.go_on.set()
        assert sent.result().status_code == 202


def test_a_disk_that_fills_up_refuses_uploads_and_serves_on(model, database_settings):
    full = database_settings.model_copy(update={"min_free_bytes": shutil.disk_usage("/").total * 1000})
    with client_of(create_app(full)) as client:
        refused = post(client)
        assert slug(refused) == (503, "storage-full")
        assert int(refused.headers["retry-after"]) == admission.FULL_SECONDS
        assert client.get("/v1/models").status_code == 200


def test_an_upload_that_stalls_makes_room(model, database_settings):
    impatient = database_settings.model_copy(update={"upload_stall_seconds": 0.3, "max_uploads": 1})
    with serving(create_app(impatient)) as url, ThreadPoolExecutor(1) as pool:
        slow = Slow(LARGE)
        sent = pool.submit(slow.send, url)
        assert slow.begun.wait(30)
        until(lambda: post(httpx.Client(base_url=url)).status_code == 202, 20.0)
        slow.go_on.set()
        with suppress(httpx.TransportError):  # the connection was closed while the rest was being sent
            assert slug(sent.result()) == (408, "upload-stalled")


def test_a_wait_takes_no_room(model, database_settings):
    one = database_settings.model_copy(update={"max_uploads": 1})
    api = create_app(one)
    with serving(api) as url, ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, timeout=30) as client:
        files = {"audio": ("track.wav", LARGE)}
        waiting = pool.submit(httpx.post, url + URL, files=files, headers={"Prefer": "wait=5"}, timeout=30)
        until(lambda: client.get(URL).json()["items"], 20.0)
        until(lambda: post(client).status_code == 202, 4.0)  # the row is there a moment before the room is
        assert not waiting.done()
        assert waiting.result().status_code == 202


def test_so_many_wait_and_no_more(client, model, database, database_settings):
    few = database_settings.model_copy(update={"max_queued_per_tenant": 2, "max_queued": 3})
    with client_of(create_app(few)) as client:
        assert [post(client, TRACK).status_code for _ in range(2)] == [202, 202]
        refused = post(client, TRACK)
        assert slug(refused) == (429, "too-many-waiting")
        assert int(refused.headers["retry-after"]) == pressure.AGAIN_SECONDS
        form = {"batch": "b", "items": '[{"custom_id": "a", "file": "f"}]'}
        assert slug(client.post("/v1/batches", data=form, files={"f": TRACK})) == (429, "too-many-waiting")
        with transaction(database) as session:
            session.add(Tenant(id="other", name="Other"))
            session.flush()
            session.execute(text("UPDATE attributions SET tenant_id = 'other'"))
        assert post(client, TRACK).status_code == 202
        assert slug(post(client, TRACK)) == (503, "queue-full")
    assert rows(database, Attribution) == 3


def test_no_connection_left_is_said_soon_and_typed(database_settings):
    few = database_settings.model_copy(update={"database_connections": 1, "database_wait_seconds": 0.2})
    db = engines(few)
    began = time.monotonic()
    with reading(db) as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseBusy), reading(db) as other:
            other.execute(text("SELECT 1"))
    assert time.monotonic() - began < 5.0
    db.close()


def test_a_caller_says_until_when_an_answer_is_worth_something(client, model, database, settings):
    made = post(client, TRACK, expires_in="60").json()
    assert 55 < _seconds(made) <= 60
    assert _seconds(post(client, TRACK, expires_in="1e12").json()) == pytest.approx(settings.queue_ttl_seconds)
    for wrong in ("0", "-1", "nan", "inf", "soon"):
        assert slug(post(client, TRACK, expires_in=wrong)) == (422, "invalid-request")


def _seconds(shown):

    return (datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])).total_seconds()


def test_a_signal_to_stop_is_noticed_and_passed_on():
    heard, leaving = [], threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(leaving.is_set()))
    try:
        with noticed(leaving):
            signal.raise_signal(signal.SIGTERM)
        assert (heard, leaving.is_set()) == ([True], True)
        signal.raise_signal(signal.SIGTERM)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _api(settings, folder):
    """The API as it runs in earnest, in a process of its own."""
    port = _free_port()
    bind = ("--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "5")
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app", *bind]
    process = supervisor.start(command, folder / "log", environment(settings))
    try:
        until(lambda: _up(f"http://127.0.0.1:{port}"), 60.0)
        yield f"http://127.0.0.1:{port}", process
    finally:
        supervisor.end(process, 10.0)


def test_an_api_that_is_asked_to_stop_answers_those_who_wait(model, database_settings, tmp_path):
    with _api(database_settings, tmp_path) as (url, process), ThreadPoolExecutor(1) as pool:
        files = {"audio": ("track.wav", TRACK)}
        waiting = pool.submit(httpx.post, url + URL, files=files, headers={"Prefer": "wait=60"}, timeout=90)
        until(lambda: httpx.get(url + URL).json()["items"], 30.0)
        began = time.monotonic()
        process.terminate()
        answer = waiting.result()
        process.wait(20)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert time.monotonic() - began < 5.0


def test_memory_stays_flat_while_many_large_files_come(model, database, database_settings, tmp_path):
    big = Sound(seconds=60.0, rate=44_100, channels=2).encode()
    with _api(database_settings, tmp_path) as (url, process):
        memory, statuses = asyncio.run(_storm(url, psutil.Process(process.pid), big))
    assert len(big) > 10_000_000
    assert statuses[202] == 40
    assert set(statuses) <= {202, 503}
    assert memory[1] - memory[0] < 120_000_000
    assert rows(database, Attribution) == 40


async def _storm(url, process, audio):
    statuses, memory = Counter(), [process.memory_info().rss, 0]

    async def send(client, number):
        while True:
            try:
                answer = await client.post(URL, files={"audio": ("t.wav", audio)}, data={"external_id": str(number)})
            except httpx.TransportError:
                await asyncio.sleep(1.0)
                continue
            statuses[answer.status_code] += 1
            memory[1] = max(memory[1], process.memory_info().rss)
            if answer.status_code == 202:
                return
            await asyncio.sleep(float(answer.headers["retry-after"]))

    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=None)) as client:
        await asyncio.gather(*(send(client, number) for number in range(40)))
    return memory, statuses


def _free_port():

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _up(url):
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False
