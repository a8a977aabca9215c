"""A counterfactual's lease and the sweeper, on both databases: the same mechanism as an attribution's."""

from __future__ import annotations

import pytest

from app import leasing
from app.attributions import lease as attribution_lease
from app.attributions.outcome import ErrorInfo
from app.counterfactuals import lease, service, sweeping
from app.counterfactuals.outcome import Apart, Forgotten, Outcome, Shift
from app.db import reading, transaction
from app.errors import InvalidResult, StorageUnavailable
from app.models import DEFAULT_TENANT, ForgettingStage, Take
from app.storage import Storage
from tests.app import forgotten
from tests.app.registered import KEYS, queue_one, register
from tests.app.registered import outcome as ranking


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


@pytest.fixture
def waiting(db, settings):
    """A queued counterfactual of the first song."""
    register(db)
    ident = queue_one(db, settings, prompt="slow piano")
    with transaction(db) as session:
        held = attribution_lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
        attribution_lease.complete(session, claim=held, outcome=ranking())
    with transaction(db) as session:
        asked = service.NewCounterfactual(f"{DEFAULT_TENANT}-{KEYS[0]}")
        made = service.create(session, tenant_id=DEFAULT_TENANT, attribution_id=ident, request=asked, settings=settings)
        return made.id


def _take(db, settings, ident):
    with transaction(db) as session:
        return lease.take(session, counterfactual_id=ident, worker_id="w", settings=settings)


def _row(db, ident):
    with reading(db) as session:
        return service.get(session, tenant_id=DEFAULT_TENANT, counterfactual_id=ident)


def _rings(valkey):
    with valkey.client() as client:
        return client.llen(service.queue_name("starter"))


def _outcome(settings):
    return forgotten.outcome(Storage.open(settings.storage_url), DEFAULT_TENANT)


def test_a_claim_holds_all_that_the_job_needs(db, settings, waiting, valkey):
    assert _rings(valkey) == 1
    held = _take(db, settings, waiting)
    row = _row(db, waiting)
    assert (held.id, held.token, held.attempt, row.status, row.stage) == (
        waiting,
        row.lease_token,
        1,
        "running",
        "decoding",
    )
    assert (held.song, held.prompt, held.track_prompt, held.seed) == (KEYS[0], "slow piano", "slow piano", 0)
    assert held.control in KEYS[1:]
    assert (held.audio_key, held.index_digest) == ("default/abc", "i1")
    assert _take(db, settings, waiting) is None
    assert _take(db, settings, "nothing") is None


def test_beats_speak_of_its_own_stages(db, settings, waiting):
    held = _take(db, settings, waiting)
    with transaction(db) as session:
        stage = ForgettingStage.GENERATING
        assert leasing.beat(session, claim=held, settings=settings, stage=stage, progress=0.5) is leasing.Beat.OK
    assert (_row(db, waiting).stage, _row(db, waiting).progress) == ("generating", 0.5)
    with pytest.raises(ValueError, match="ranking"), transaction(db) as session:
        leasing.beat(session, claim=held, settings=settings, stage="ranking")


def test_a_killed_worker_s_job_is_rung_for_taken_again_and_fenced(db, settings, waiting, clock, valkey):
    first = _take(db, settings, waiting)
    clock.forward(settings.lease_seconds + 1)
    with transaction(db) as session:
        assert sweeping.sweep(session, settings=settings) == 1
    assert _row(db, waiting).status == "queued"
    clock.forward(settings.retry_seconds)
    with transaction(db) as session:
        assert sweeping.sweep(session, settings=settings) == 1
    assert _rings(valkey) == 2
    second = _take(db, settings, waiting)
    assert second.attempt == 2
    with transaction(db) as session:
        assert leasing.beat(session, claim=first, settings=settings) is leasing.Beat.LOST
        assert not lease.complete(session, claim=first, outcome=_outcome(settings))
    with transaction(db) as session:
        assert lease.complete(session, claim=second, outcome=_outcome(settings))
        assert not lease.complete(session, claim=second, outcome=_outcome(settings))
    assert set(_row(db, waiting).audio) == set(Take)


def test_attempts_end_and_so_does_waiting(db, settings, waiting, clock):
    error = ErrorInfo.of(StorageUnavailable())
    for _ in range(settings.max_attempts):
        held = _take(db, settings, waiting)
        with transaction(db) as session:
            assert leasing.fail(session, claim=held, error=error, retry=True, settings=settings)
        clock.forward(60)
    row = _row(db, waiting)
    assert (row.status, row.error_type, row.attempts) == ("failed", "storage-unavailable", settings.max_attempts)


def test_what_nobody_took_in_time_expires(db, settings, waiting, clock):
    clock.forward(settings.queue_ttl_seconds + 1)
    with transaction(db) as session:
        assert sweeping.sweep(session, settings=settings) == 1
    assert _row(db, waiting).status == "expired"
    assert _take(db, settings, waiting) is None


def test_a_release_costs_no_attempt(db, settings, waiting):
    held = _take(db, settings, waiting)
    with transaction(db) as session:
        assert leasing.release(session, claim=held)
    assert (_row(db, waiting).status, _row(db, waiting).attempts) == ("queued", 0)


def test_results_that_are_not_whole_are_refused(settings):
    whole = _outcome(settings)
    with pytest.raises(InvalidResult, match="interval"):
        Shift(1.0, 2.0, 3.0)
    with pytest.raises(InvalidResult, match="interval"):
        Shift(float("nan"), 0.0, 1.0)
    parts = {name: getattr(whole, name) for name in ("loss", "song", "control", "difference", "likeness", "audio")}
    song = Forgotten(whole.song.change, whole.song.own, Apart(float("inf"), 1.0))
    for change in ({"difference": None}, {"audio": {}}, {"control": None}, {"loss": float("nan")}, {"song": song}):
        with pytest.raises(InvalidResult):
            Outcome(**parts | change)
