"""Claims, fences and the state machine, on both databases."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from app.attributions import lease, service, sweeping
from app.attributions.lease import Beat
from app.attributions.outcome import ErrorInfo
from app.db import reading, transaction
from app.errors import InvalidResult, StorageUnavailable
from app.models import DEFAULT_TENANT, Influence, Stage
from tests.app.registered import KEYS, outcome, queue_one, register

ERROR = ErrorInfo("silent", "nothing to hear")


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


@pytest.fixture
def queued(db, settings):
    register(db)
    return queue_one(db, settings)


def _claim(db, settings, ident):
    with transaction(db) as session:
        return lease.take(session, attribution_id=ident, worker_id="w", settings=settings)


def _row(db, ident):
    with reading(db) as session:
        return service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)


def test_a_claim_holds_all_that_the_job_needs(db, settings, queued):
    taken = _claim(db, settings, queued)
    row = _row(db, queued)
    assert (taken.id, taken.token, taken.attempt) == (queued, row.lease_token, 1)
    assert (taken.folder, taken.model_name, taken.index_digest) == ("/models/starter", "starter", "i1")
    assert (taken.audio_key, taken.method) == ("default/abc", "index")
    assert (row.status, row.stage, row.worker_id, row.next_ring_at) == ("running", "decoding", "w", None)
    assert row.lease_until == row.started_at + (row.lease_until - row.started_at)


def test_what_is_taken_ended_unknown_or_too_old_cannot_be_claimed(db, settings, queued, clock):
    second, old = queue_one(db, settings), queue_one(db, settings)
    with transaction(db) as session:
        service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=second)
    assert _claim(db, settings, queued)
    assert _claim(db, settings, queued) is None
    assert _claim(db, settings, second) is None
    assert _claim(db, settings, "nothing") is None
    clock.forward(settings.queue_ttl_seconds)
    assert _claim(db, settings, old) is None


def test_many_workers_claim_each_job_once(db, settings):
    register(db)
    idents = [queue_one(db, settings) for _ in range(100)]

    def work(_: int) -> list[str]:
        return [ident for ident in idents if _claim(db, settings, ident)]

    with ThreadPoolExecutor(4) as pool:
        taken = [ident for some_of in pool.map(work, range(4)) for ident in some_of]
    assert Counter(taken) == dict.fromkeys(idents, 1)


def test_a_beat_renews_and_reports(db, settings, queued, clock):
    taken = _claim(db, settings, queued)
    clock.forward(30)
    with transaction(db) as session:
        beat = lease.beat(session, claim=taken, settings=settings, stage=Stage.SCORING, progress=1.5)
    row = _row(db, queued)
    assert beat is Beat.OK
    assert (row.stage, row.progress) == ("scoring", 1.0)
    assert (row.lease_until - clock()).total_seconds() == settings.lease_seconds


def test_a_second_complete_changes_nothing(db, settings, queued):
    taken = _claim(db, settings, queued)
    with transaction(db) as session:
        assert lease.complete(session, claim=taken, outcome=outcome())
    with transaction(db) as session:
        assert not lease.complete(session, claim=taken, outcome=outcome(KEYS[:1]))
        assert not lease.fail(session, claim=taken, error=ERROR, retry=False, settings=settings)
        assert not lease.release(session, claim=taken)
        assert session.scalar(select(func.count()).select_from(Influence)) == len(KEYS)


def test_a_succeeded_attribution_is_in_no_stage(db, settings, queued):
    taken = _claim(db, settings, queued)
    with transaction(db) as session:
        lease.complete(session, claim=taken, outcome=outcome())
    row = _row(db, queued)
    assert (row.status, row.stage, row.progress) == ("succeeded", None, 1.0)


def test_who_lost_the_lease_writes_nothing_whatever_it_tries(db, settings, queued, clock):
    first = _claim(db, settings, queued)
    clock.forward(settings.lease_seconds + 1)
    with transaction(db) as session:
        assert sweeping.lapse(session, settings=settings) == 1
    clock.forward(60)
    second = _claim(db, settings, queued)
    assert (second.attempt, second.token != first.token) == (2, True)
    before = _row(db, queued).lease_until
    with transaction(db) as session:
        assert lease.beat(session, claim=first, settings=settings) is Beat.LOST
        assert not lease.complete(session, claim=first, outcome=outcome())
        assert not lease.fail(session, claim=first, error=ERROR, retry=True, settings=settings)
        assert not lease.release(session, claim=first)
        assert not lease.stop(session, claim=first)
    assert _row(db, queued).lease_until == before
    with transaction(db) as session:
        assert lease.complete(session, claim=second, outcome=outcome(KEYS[:2]))
    with reading(db) as session:
        assert session.scalar(select(func.count()).select_from(Influence)) == 2


def test_a_song_outside_the_training_set_refuses_the_whole_result(db, settings, queued):
    taken = _claim(db, settings, queued)
    with pytest.raises(InvalidResult), transaction(db) as session:
        lease.complete(session, claim=taken, outcome=outcome(("one", "never heard")))
    assert _row(db, queued).status == "running"


def test_a_failure_carries_its_type(db, settings, queued):
    taken = _claim(db, settings, queued)
    with transaction(db) as session:
        assert lease.fail(session, claim=taken, error=ERROR, retry=False, settings=settings)
    row = _row(db, queued)
    assert (row.status, row.error_type, row.error_detail) == ("failed", "silent", "nothing to hear")
    assert row.finished_at is not None


def test_retries_wait_longer_each_time_and_end_with_their_own_error(db, settings, queued, clock):
    error, waits = ErrorInfo.of(StorageUnavailable()), []
    for _ in range(settings.max_attempts):
        taken = _claim(db, settings, queued)
        with transaction(db) as session:
            assert lease.fail(session, claim=taken, error=error, retry=True, settings=settings)
        row = _row(db, queued)
        if row.status == "queued":
            assert _claim(db, settings, queued) is None
            waits.append((row.not_before - clock()).total_seconds())
            assert row.next_ring_at == row.not_before
            clock.forward(waits[-1])
    assert waits == [2.0, 4.0]
    assert (row.status, row.error_type, row.attempts) == ("failed", "storage-unavailable", settings.max_attempts)


def test_a_release_costs_no_attempt_and_leaves_it_to_others_at_once(db, settings, queued):
    for _ in range(settings.max_attempts + 2):
        taken = _claim(db, settings, queued)
        assert taken.attempt == 1
        with transaction(db) as session:
            assert lease.release(session, claim=taken)
    assert (_row(db, queued).status, _row(db, queued).attempts) == ("queued", 0)


@pytest.mark.parametrize("ending", ["release", "retry"])
def test_a_job_that_was_to_be_canceled_is_not_queued_again(db, settings, queued, ending):
    taken = _claim(db, settings, queued)
    with transaction(db) as session:
        service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=queued)
    with transaction(db) as session:
        if ending == "release":
            assert lease.release(session, claim=taken)
        else:
            assert lease.fail(session, claim=taken, error=ERROR, retry=True, settings=settings)
    assert _row(db, queued).status == "canceled"
