"""What Prometheus is told answers: is it healthy, how long is the queue, how old the oldest job, what went wrong."""

from __future__ import annotations

import re
from datetime import timedelta

from app.attributions import lease
from app.attributions.outcome import ErrorInfo
from app.db import reading, transaction
from app.errors import TooShort
from app.leasing import lapse
from app.metrics.ended import EndedJobs
from app.models import Attribution, Worker
from tests.app.registered import queue_one, register
from tests.app.sounds import Sound
from tests.app.world import complete, fail, statements

POST = "/v1/attributions"


def figures(client):
    text = client.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^(rootnote_\S+) (\S+)$", text, re.MULTILINE)}


def post(client, audio=None):
    return client.post(POST, files={"audio": ("a.wav", Sound().encode() if audio is None else audio)})


def test_ends_are_counted_once_by_model_and_type(client, database, settings, model):
    figures(client)
    for end in ("succeeded", "failed", "succeeded"):
        ident = post(client).json()["id"]
        if end == "failed":
            fail(database, settings, ident, ErrorInfo.of(TooShort()))
        else:
            complete(database, settings, ident)
        figures(client)
    told = figures(client)
    assert told['rootnote_jobs_ended_total{end="succeeded",model="starter",type=""}'] == 2
    assert told['rootnote_jobs_ended_total{end="failed",model="starter",type="too-short"}'] == 1
    assert told['rootnote_job_seconds_count{model="starter"}'] == 2
    assert told['rootnote_stage_seconds_sum{model="starter",stage="encoding"}'] == 1.0


def test_an_end_that_is_committed_late_is_counted_too_and_none_twice(db, clock, settings):
    register(db)
    ended = EndedJobs(since=clock())

    def end(moment_ago):
        ident = queue_one(db, settings)
        with transaction(db) as session:
            row = session.get_one(Attribution, ident)
            row.status, row.finished_at = "succeeded", clock() - timedelta(seconds=moment_ago)

    def counted():
        with reading(db) as session:
            ended.follow(session)
        name = {"model": "starter", "end": "succeeded", "type": ""}
        return ended.registry.get_sample_value("rootnote_jobs_ended_total", name)

    clock.forward(100)
    end(0)
    assert counted() == 1
    end(30)
    assert counted() == counted() == 2
    clock.forward(1000)
    end(0)
    assert counted() == counted() == 3
    end(2000)  # before it began to look
    assert counted() == 3


def test_lapsed_leases_are_counted_when_their_job_ends_and_shown_while_nobody_sweeps(client, database, settings, model):
    ident = post(client).json()["id"]
    with transaction(database) as session:
        lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
        session.get_one(Attribution, ident).lease_until -= timedelta(hours=1)
    assert figures(client)["rootnote_leases_overdue"] == 1
    with transaction(database) as session:
        assert lapse(session, Attribution, settings=settings) == 1
        session.get_one(Attribution, ident).not_before = None
    assert figures(client)["rootnote_leases_overdue"] == 0
    complete(database, settings, ident)
    assert figures(client)['rootnote_leases_lapsed_total{model="starter"}'] == 1


def test_refusals_are_counted_by_their_type(client, model):
    post(client, b"words")
    post(client, b"more words")
    client.get("/v1/songs/none")
    told = figures(client)
    assert told['rootnote_refusals_total{type="not-audio"}'] == 2
    assert told['rootnote_refusals_total{type="not-found"}'] == 1


def test_it_says_what_runs_who_was_seen_and_how_much_room_there_is(client, database, model):
    with transaction(database) as session:
        session.add(Worker(hostname="here", pid=1, device="cpu", model_id=model.id))
    told = figures(client)
    assert [value for name, value in told.items() if name.startswith("rootnote_build_info{")] == [1]
    assert told['rootnote_model_workers_alive{model="starter"}'] == 1
    assert 0 <= told['rootnote_worker_seen_seconds{model="starter"}'] < 60
    assert told["rootnote_storage_free_bytes"] > 0
    assert told["rootnote_database_up"] == 1
    assert told['rootnote_database_connections{pool="read",state="in_use"}'] <= 2


def test_nothing_names_a_tenant(client, model):
    post(client)
    assert "tenant" not in client.get("/metrics").text
    assert "default" not in client.get("/metrics").text


def test_a_scrape_costs_the_same_however_many_jobs_there_were(client, database, settings, model):
    ident = post(client).json()["id"]
    complete(database, settings, ident)
    with statements() as few:
        client.get("/metrics")
    for _ in range(5):
        complete(database, settings, post(client).json()["id"])
    with statements() as many:
        client.get("/metrics")
    assert len(few) == len(many) <= 10
