"""Metering and quotas, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from app.attributions import lease
from app.attributions.outcome import ErrorInfo
from app.db import reading, transaction
from app.errors import NotFound, QuotaExhausted, TooManyRequests
from app.models import DEFAULT_TENANT, Attribution
from app.usage import service
from tests.app.registered import outcome, queue_one, register
from tests.app.sounds import Sound
from tests.app.test_batches_api import WAV, sent, slugs
from tests.app.world import rows


@pytest.fixture
def brokered(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


def months(db, tenant_id=DEFAULT_TENANT):
    with reading(db) as session:
        return [(m.month, m.jobs, m.audio_s, m.device_s) for m in service.months(session, tenant_id=tenant_id)]


def allow(db, **quotas):
    with transaction(db) as session:
        service.allow(session, tenant_id=DEFAULT_TENANT, **quotas)


def test_a_month_holds_jobs_audio_and_the_time_of_every_attempt(db, brokered, clock):
    register(db)
    ident = queue_one(db, brokered)
    for error_or_none in (ErrorInfo("storage-unavailable", "x"), None):
        with transaction(db) as session:
            taken = lease.claim(session, attribution_id=ident, worker_id="w", settings=brokered)
        clock.forward(5)
        with transaction(db) as session:
            if error_or_none:
                assert lease.fail(session, claim=taken, error=error_or_none, retry=True, settings=brokered)
            else:
                found = outcome()
                object.__setattr__(found, "audio_facts", {"duration_s": 30.0})
                assert lease.complete(session, claim=taken, outcome=found)
        clock.forward(10)
    assert months(db) == [("2026-01", 1, 30.0, 10.0)]


def test_months_are_apart_and_come_newest_first(db, brokered, clock):
    register(db)
    clock.moment = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    queue_one(db, brokered)
    clock.forward(1)
    queue_one(db, brokered)
    queue_one(db, brokered)
    assert [(month, jobs) for month, jobs, *_ in months(db)] == [("2026-02", 2), ("2026-01", 1)]


def test_many_at_once_are_all_counted(database):
    def count(_: int) -> None:
        with transaction(database) as session:
            service.meter(session, DEFAULT_TENANT, jobs=1, audio_s=0.5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(40)))
    ((_, jobs, audio, _),) = months(database)
    assert (jobs, audio) == (40, 20.0)


def test_the_jobs_of_a_month_end_and_begin_again(db, brokered, clock):
    register(db)
    allow(db, jobs_per_month=2)
    clock.moment = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)
    queue_one(db, brokered)
    queue_one(db, brokered)
    with pytest.raises(QuotaExhausted) as refused:
        queue_one(db, brokered)
    assert refused.value.retry_after_s == 3600
    assert (rows(db, Attribution), months(db)[0][1]) == (2, 2)
    clock.forward(3600)
    queue_one(db, brokered)
    allow(db, jobs_per_month=None)
    queue_one(db, brokered)


def test_requests_are_counted_by_the_minute(db, clock):
    allow(db, requests_per_minute=3)
    clock.forward(45)

    def ask():
        with transaction(db) as session:
            service.count_request(session, DEFAULT_TENANT)

    for _ in range(3):
        ask()
    with pytest.raises(TooManyRequests) as refused:
        ask()
    assert refused.value.retry_after_s == 15
    clock.forward(15)
    ask()


def test_a_quota_is_a_tenant_s(db):
    with pytest.raises(NotFound), transaction(db) as session:
        service.allow(session, tenant_id="nobody", jobs_per_month=1)


def test_too_many_requests_are_told_when_to_come_back(client, database):
    allow(database, requests_per_minute=2, jobs_per_month=7)
    shown = client.get("/v1/usage").json()
    assert shown == {"quota": {"requests_per_minute": 2, "jobs_per_month": 7}, "months": []}
    answers = [client.get("/v1/songs") for _ in range(4)]  # at most one new minute begins meanwhile
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:rootnote:problem:too-many-requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert client.get("/healthz").status_code == 200


def test_a_month_that_is_used_up_refuses_tracks_and_items(client, model, database):
    allow(database, jobs_per_month=2)
    post = {"files": {"audio": ("t.wav", Sound().encode())}}
    assert client.post("/v1/attributions", **post).status_code == 202
    receipt = sent(client, [{"custom_id": each, "file": "one"} for each in "ab"], one=WAV)
    assert slugs(receipt) == {"a": None, "b": "quota-exhausted"}
    refused = client.post("/v1/attributions", **post)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:rootnote:problem:quota-exhausted")
    assert int(refused.headers["retry-after"]) > 1
    assert rows(database, Attribution) == 2


def test_quotas_are_set_and_use_is_read_by_command(run, database, database_settings, monkeypatch):
    monkeypatch.setenv("ROOTNOTE_DATABASE_URL", database_settings.database_url)
    status, out, _ = run("tenants", "allow", DEFAULT_TENANT, "--jobs", "5")
    assert (status, out) == (0, "default: requests a minute: no limit; jobs a month: 5")
    with transaction(database) as session:
        service.count_jobs(session, DEFAULT_TENANT, 4)
    status, out, _ = run("tenants", "used")
    assert (status, "│ 4 │" in out) == (0, True)
    assert run("tenants", "allow", "nobody")[0] == 1
