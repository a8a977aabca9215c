"""The sweeper's steps, on both databases: nothing that waits is forgotten, nothing lasts for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from app import leasing
from app.attributions import lease, service, sweeping
from app.attributions.sweeping import Swept
from app.db import reading, transaction
from app.models import DEFAULT_TENANT
from tests.app.registered import outcome, queue_one, register


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


@pytest.fixture
def name(db, request):
    name = f"model {request.node.name}"
    register(db, name=name)
    return name


def _sweep(db, settings):
    with transaction(db) as session:
        return sweeping.sweep(session, settings=settings)


def _claim(db, settings, ident):
    with transaction(db) as session:
        return lease.take(session, attribution_id=ident, worker_id="w", settings=settings)


def _row(db, ident):
    with reading(db) as session:
        return service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)


def _rings(valkey, name):
    with valkey.client() as client:
        return client.llen(service.queue_name(name))


def test_a_job_that_waits_is_rung_again_ever_more_rarely(db, settings, clock, valkey, name):
    queue_one(db, settings, model=name)
    times, began = [], clock()
    for _ in range(300):
        clock.forward(1)
        if _sweep(db, settings).rung:
            times.append(int((clock() - began).total_seconds()))
    assert times == [2, 6, 14, 30, 62, 122, 182, 242]
    assert _rings(valkey, name) == 1 + len(times)


def test_what_has_ended_or_runs_is_not_rung(db, settings, clock, valkey, name):
    running, ended = queue_one(db, settings, model=name), queue_one(db, settings, model=name)
    _claim(db, settings, running)
    taken = _claim(db, settings, ended)
    with transaction(db) as session:
        lease.complete(session, claim=taken, outcome=outcome())
    clock.forward(30)
    assert _sweep(db, settings) == Swept(lapsed=0, expired=0, rung=0)
    assert _rings(valkey, name) == 2


def test_a_lost_worker_costs_an_attempt_and_a_pause(db, settings, clock, valkey, name):
    ident = queue_one(db, settings, model=name)
    _claim(db, settings, ident)
    clock.forward(settings.lease_seconds - 1)
    assert _sweep(db, settings).lapsed == 0
    clock.forward(2)
    assert _sweep(db, settings) == Swept(lapsed=1, expired=0, rung=0)
    row = _row(db, ident)
    assert (row.status, row.attempts, row.stage, row.progress) == ("queued", 1, None, 0.0)
    assert _claim(db, settings, ident) is None
    clock.forward(settings.retry_seconds)
    assert _sweep(db, settings).rung == 1
    assert _claim(db, settings, ident).attempt == 2


def test_a_poison_job_ends_after_its_last_attempt(db, settings, clock, name):
    ident = queue_one(db, settings, model=name)
    for _ in range(settings.max_attempts):
        clock.forward(60)
        assert _claim(db, settings, ident)
        clock.forward(settings.lease_seconds + 1)
        _sweep(db, settings)
    row = _row(db, ident)
    assert (row.status, row.error_type, row.attempts) == ("failed", "attempts-exhausted", settings.max_attempts)
    assert "decoding" in row.error_detail
    clock.forward(3600)
    assert _sweep(db, settings) == Swept(0, 0, 0)


def test_a_lost_job_that_was_to_be_canceled_is_canceled(db, settings, clock, name):
    ident = queue_one(db, settings, model=name)
    _claim(db, settings, ident)
    with transaction(db) as session:
        service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)
    clock.forward(settings.lease_seconds + 1)
    assert _sweep(db, settings).lapsed == 1
    assert _row(db, ident).status == "canceled"


def test_what_nobody_took_in_time_expires(db, settings, clock, name):
    ident = queue_one(db, settings, model=name)
    clock.forward(settings.queue_ttl_seconds + 1)
    assert _sweep(db, settings) == Swept(lapsed=0, expired=1, rung=0)
    assert (_row(db, ident).status, _row(db, ident).finished_at) == ("expired", clock())
    assert _claim(db, settings, ident) is None


def test_more_than_a_batch_is_swept_in_turns(db, settings, clock, name, monkeypatch):
    monkeypatch.setattr(leasing, "BATCH", 3)
    for _ in range(7):
        queue_one(db, settings, model=name)
    clock.forward(3)
    assert [_sweep(db, settings).rung for _ in range(4)] == [3, 3, 1, 0]


def test_two_sweepers_at_once_do_no_harm(db, settings, clock, valkey, name):
    for _ in range(20):
        _claim(db, settings, queue_one(db, settings, model=name))
    rung = _rings(valkey, name)
    clock.forward(settings.lease_seconds + 1)
    with ThreadPoolExecutor(2) as pool:
        swept = list(pool.map(lambda _: _sweep(db, settings), range(2)))
    assert sum(each.lapsed for each in swept) == 20
    clock.forward(settings.retry_seconds)
    with ThreadPoolExecutor(2) as pool:
        swept = list(pool.map(lambda _: _sweep(db, settings), range(2)))
    assert sum(each.rung for each in swept) == 20
    assert _rings(valkey, name) == rung + 20


def test_a_dead_broker_does_not_stop_the_sweeper(db, settings, clock, name):
    for _ in range(5):
        queue_one(db, settings, model=name)
    deaf = settings.model_copy(update={"broker_url": f"redis+socket://{settings.data_dir}/nobody.sock"})
    clock.forward(3)
    assert _sweep(db, deaf).rung == 5
    assert _sweep(db, deaf).rung == 0
