"""Alive, ready, measured."""

import gc
import re
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.db import transaction, utcnow
from app.main import create_app
from app.models import Worker
from tests.app.here import client_of
from tests.app.sounds import Sound
from tests.services import Valkey

URL = "/v1/attributions"


@pytest.fixture
def broker():
    """A broker that the test may kill."""
    with closing(Valkey()) as server:
        server.start()
        yield server


@pytest.fixture
def whole(database_settings, broker):
    """The application with everything that it needs but a worker."""
    with client_of(create_app(database_settings.model_copy(update={"broker_url": broker.url}))) as client:
        yield client


def see_worker(database, seconds_ago=0.0):
    with transaction(database) as session:
        seen = utcnow() - timedelta(seconds=seconds_ago)
        session.add(Worker(hostname="here", pid=1, device="cpu", seen_at=seen))


def missing(client):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:rootnote:problem:not-ready"
    return answer.json()["missing"]


def figures(client):
    text = client.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^(rootnote_\S+) (\S+)$", text, re.MULTILINE)}


def test_a_process_is_alive_on_its_own(settings):
    nowhere = {"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/none"}
    with client_of(create_app(settings.model_copy(update=nowhere))) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert missing(client) == ["database", "broker"]
        assert "rootnote_requests_total" in client.get("/metrics").text


def test_what_was_there_at_the_start_is_not_searched_for_garbage_while_it_serves(settings):
    with client_of(create_app(settings)):
        assert gc.get_freeze_count() > 100_000
    assert gc.get_freeze_count() == 0


def test_ready_means_that_every_part_is_there(whole, database, broker):
    assert missing(whole) == ["worker"]
    see_worker(database)
    assert whole.get("/readyz").json() == {"status": "ready", "models": {}}
    broker.kill()
    assert missing(whole) == ["broker"]


def test_a_worker_not_seen_lately_does_not_count(whole, database):
    see_worker(database, seconds_ago=120)
    assert missing(whole) == ["worker"]


def test_each_model_tells_how_many_workers_hold_it(whole, database, model):
    see_worker(database)
    assert whole.get("/readyz").json()["models"] == {"starter": 0}
    with transaction(database) as session:
        session.add(Worker(hostname="here", pid=2, device="cpu", model_id=model.id))
    assert whole.get("/readyz").json()["models"] == {"starter": 1}


def test_a_schema_that_is_not_the_newest_is_not_ready(whole, database):
    see_worker(database)
    with transaction(database) as session:
        newest = session.scalar(text("SELECT version_num FROM alembic_version"))
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    try:
        assert missing(whole) == ["migrations"]
    finally:
        with transaction(database) as session:
            session.execute(text("UPDATE alembic_version SET version_num = :newest"), {"newest": newest})
    assert whole.get("/readyz").status_code == 200


def test_a_disk_without_room_is_not_ready(database_settings, broker, database):
    see_worker(database)
    given = {"broker_url": broker.url, "min_free_bytes": 2**62}
    with client_of(create_app(database_settings.model_copy(update=given))) as client:
        assert missing(client) == ["disk"]


def test_a_storage_that_is_gone_is_missing(whole, database, settings):
    see_worker(database)
    (settings.data_dir / "objects").rmdir()
    assert missing(whole) == ["storage"]


def test_figures_follow_the_queue_and_the_workers(client, database, model):
    idle = figures(client)
    oldest = 'rootnote_oldest_queued_seconds{model="starter"}'
    assert (idle[oldest], idle["rootnote_workers_alive"]) == (0, 0)
    see_worker(database)
    for _ in range(2):
        assert client.post(URL, files={"audio": ("a.wav", Sound().encode())}).status_code == 202
    busy = figures(client)
    assert busy['rootnote_attributions{model="starter",status="queued"}'] == 2
    assert busy[oldest] > 0
    assert busy["rootnote_workers_alive"] == 1


def test_requests_are_counted_by_route_not_by_address(client):
    for number in range(3):
        client.get(f"/v1/songs/{number}")
    client.get("/nowhere/7")
    client.request("BREW", "/v1/songs")
    counted = figures(client)
    assert counted['rootnote_requests_total{method="GET",route="/v1/songs/{song_id}",status="404"}'] == 3
    assert counted['rootnote_requests_total{method="GET",route="unknown",status="404"}'] == 1
    assert counted['rootnote_request_seconds_count{method="GET",route="/v1/songs/{song_id}"}'] == 3
    assert not [name for name in counted if "nowhere" in name or "BREW" in name]
