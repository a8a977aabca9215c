"""The load's clients send what they say, honour Retry-After, and count what went wrong."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select

from app.catalogue.registry import register_model
from app.db import reading, transaction
from app.main import create_app
from app.models import DEFAULT_TENANT, Attribution
from bench.load import polls, uploads
from bench.load.__main__ import Memory, _polls, _uploads
from tests.app.live import serving
from tests.app.world import model_folder

ACCEPT = b'HTTP/1.1 202 Accepted\r\nContent-Length: 11\r\n\r\n{"id": "a"}'


@asynccontextmanager
async def answering(*answers: bytes, reads_first: bool):
    """A server that gives the answers in turn, before or after it has read the body; yields URL and body lengths."""
    left, bodies = list(answers), []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if reads_first:
            bodies.append(await reader.readexactly(length))
        writer.write(left.pop(0))
        await writer.drain()
        if not reads_first:
            bodies.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}", bodies


def later(retry: str) -> bytes:
    return f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n{retry}\r\n\r\n".encode()


def _sent(*answers: bytes, megabytes: float = 0.4, reads_first: bool = True):
    async def run():
        async with answering(*answers, reads_first=reads_first) as (url, bodies):
            return await uploads.run(uploads.Sender(url, uploads.recording(megabytes)), 1), bodies

    return asyncio.run(run())


def test_what_is_refused_for_the_moment_is_sent_again_when_the_service_said_so():
    found, _ = _sent(later("Retry-After: 1"), ACCEPT)
    upload = found["uploads"][0]
    assert (upload["tries"], upload["id"], upload["untold"]) == ([503, 202], "a", 0)
    assert upload["ended"] - upload["began"] >= 1.0
    assert found["statuses"] == {503: 1, 202: 1}


def test_a_refusal_that_does_not_say_when_is_counted(monkeypatch):
    monkeypatch.setattr(uploads, "PAUSE_SECONDS", 0.0)
    found, _ = _sent(later("X-Nothing: 0"), ACCEPT)
    assert found["uploads"][0]["untold"] == 1


def test_the_rest_of_a_body_is_not_sent_after_an_early_answer():
    found, bodies = _sent(later("Retry-After: 0"), ACCEPT, megabytes=40.0, reads_first=False)
    assert found["uploads"][0]["tries"][-1] == 202
    assert len(bodies[0]) < found["bytes_each"]


def test_a_refusal_for_good_is_not_tried_again():
    found, _ = _sent(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert found["uploads"][0]["tries"] == [413]
    assert _uploads(found, 1.0)["accepted"] == 0


def test_the_real_service_takes_every_upload_as_a_track_of_its_own(database, database_settings, registered, valkey):
    settings = database_settings.model_copy(update={"broker_url": valkey.url})
    with serving(create_app(settings)) as url:
        found = asyncio.run(uploads.run(uploads.Sender(url, uploads.recording(0.4)), 3))
    assert found["statuses"] == {202: 3}
    with reading(database) as session:
        rows = session.scalars(select(Attribution)).all()
    assert {row.id for row in rows} == {upload["id"] for upload in found["uploads"]}
    assert len({row.audio_sha256 for row in rows}) == 3
    assert {row.audio_bytes for row in rows} == {found["bytes_each"]}


@pytest.fixture
def registered(database, tmp_path):
    with transaction(database) as session:
        register_model(session, DEFAULT_TENANT, model_folder(tmp_path), None)


def test_a_poll_s_time_runs_from_when_it_was_due(database_settings):
    async def run():
        stop, polled = asyncio.Event(), polls.Polls(url, None, 50.0)
        asyncio.get_running_loop().call_later(0.5, stop.set)
        await polled.run(["/healthz"], stop)
        return polled.done

    with serving(create_app(database_settings)) as url:
        done = asyncio.run(run())
    dues = [due for due, *_ in done]
    assert len(done) >= 20
    assert {how for *_, how in done} == {"answered"}
    assert sorted(dues) == pytest.approx([min(dues) + number / 50 for number in range(len(done))], abs=1e-3)
    assert all(took >= late >= 0 for _, late, took, _ in done)


def test_a_poll_that_was_told_when_to_come_back_is_refused_and_no_other():
    head = b"HTTP/1.1 %d Whatever\r\nContent-Length: 0"
    later = b"\r\nRetry-After: 2"
    assert polls.outcome(head % 200) == "answered"
    assert polls.outcome(head % 503 + later) == polls.outcome(head % 429 + later) == "refused"
    assert {polls.outcome(head % 503), polls.outcome(head % 500 + later), polls.outcome(head % 404)} == {"failed"}


def test_a_service_that_breaks_off_or_says_nothing_keeps_no_poll_for_long(monkeypatch):
    monkeypatch.setattr(polls, "PATIENCE_SECONDS", 0.2)

    async def run(serve):
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            stop, polled = asyncio.Event(), polls.Polls(f"http://127.0.0.1:{port}", None, 100.0)
            asyncio.get_running_loop().call_later(0.2, stop.set)
            await asyncio.wait_for(polled.run(["/"], stop), 10.0)
            return polled.done

    async def hang_up(_, writer):
        writer.close()

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    for serve in (hang_up, say_nothing):
        done = asyncio.run(run(serve))
        assert len(done) >= 10
        assert {how for *_, how in done} == {"failed"}


def test_times_are_told_apart_by_when_a_poll_was_due_and_how_it_ended():
    ends = {7: "failed", 8: "refused"}
    done = [(at, 0.0, 0.001 * at, ends.get(at, "answered")) for at in range(10)]
    found = _polls(done, 5, 10)
    assert [found[name] for name in ("sent", "answered", "refused_with_retry_after", "failed")] == [5, 3, 1, 1]
    assert (found["ms"]["p50"], found["ms"]["p100"], found["refused_ms"]["p50"]) == (6.0, 9.0, 8.0)
    assert found["sent_per_second"] == 1.2


def test_memory_is_that_before_the_most_and_the_last():
    memory = Memory.__new__(Memory)
    memory.samples = [(1.0, 10_000_000), (2.0, 30_000_000), (3.0, 20_000_000)]
    assert memory.summary(1.5, 2.5) == {"before": 10.0, "peak": 30.0, "after": 20.0}
