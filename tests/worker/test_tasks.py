"""One job: whatever happens in it, its row ends as it should, once."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from app.attributions import lease, service, sweeping
from app.attributions.intake import Intake, submit
from app.catalogue.registry import register_model
from app.config import Settings
from app.db import Database, reading, transaction
from app.errors import NotFound
from app.models import DEFAULT_TENANT, Attribution, Influence, Method, Status, new_id
from app.storage import Storage
from tests.app import sounds
from tests.app.sounds import Sound
from worker.editing import remove
from worker.engine import Engine
from worker.presence import Presence
from worker.resident import Resident
from worker.tasks import carry_out

PATIENCE = 60.0
RATE = 8000
TRACK = Sound(seconds=1.5, rate=RATE).encode()
LONG_TRACK = Sound(seconds=30, rate=RATE).encode()


@pytest.fixture
def quick(database_settings: Settings) -> Settings:
    return database_settings.model_copy(
        update={"heartbeat_seconds": 0.2, "retry_seconds": 0.0, "max_attempts": 2, "max_seconds": 60.0}
    )


@pytest.fixture
def held(tiny_engine: Engine, database: Database, quick: Settings, tiny_folder: Path) -> Resident:
    """A worker child at work, as its process would hold it."""
    with transaction(database) as session:
        model = register_model(session, DEFAULT_TENANT, tiny_folder, "starter")
    presence = Presence(database, model_id=model.id, device="cpu", every_s=60.0)
    return Resident(tiny_engine, database, Storage.open(quick.storage_url), quick, presence)


def queued(held: Resident, audio: bytes = TRACK, **request: Any) -> str:
    intake = Intake(held.db, held.storage, held.settings)
    asked = service.NewAttribution(filename="track.wav", **request)
    return submit(intake, [audio], tenant_id=DEFAULT_TENANT, request=asked).id


def row(held: Resident, ident: str) -> Attribution:
    with reading(held.db) as session:
        return service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)


def influences(held: Resident, ident: str) -> list[Influence]:
    with reading(held.db) as session:
        chosen = select(Influence).where(Influence.attribution_id == ident).order_by(Influence.rank)
        return list(session.scalars(chosen))


def do(held: Resident, ident: str, leaving: threading.Event | None = None) -> Attribution:
    carry_out(held, ident, leaving or threading.Event())
    return row(held, ident)


def meanwhile(held: Resident, ident: str, act: Callable[[], None]) -> threading.Thread:
    """Do something as soon as the job is past decoding."""

    def wait() -> None:
        limit = time.monotonic() + PATIENCE
        while row(held, ident).stage in {None, "decoding"} and time.monotonic() < limit:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("method", list(Method))
def test_a_track_becomes_a_whole_ranking(held: Resident, method: Method) -> None:
    ident = queued(held, prompt="slow low organ", method=method)
    done, found = do(held, ident), influences(held, ident)
    assert (done.status, done.attempts, done.error_type) == (Status.SUCCEEDED, 1, None)
    assert [each.rank for each in found] == list(range(1, len(found) + 1))
    assert len(found) == len(held.engine.index.manifest.songs)
    assert done.unattributed is not None
    assert sum(each.share for each in found) + done.unattributed == pytest.approx(1.0)
    assert set(done.timings) >= {"decoding", "encoding", "unlearning", "scoring", "ranking"}
    assert done.details["method"] == method
    assert done.index_digest == held.engine.index_digest
    assert done.audio_facts["frames"] == 1.5 * RATE


def test_a_message_that_comes_twice_does_nothing_more(held: Resident) -> None:
    ident = queued(held)
    first, found = do(held, ident), influences(held, ident)
    again = do(held, ident)
    assert (again.attempts, again.finished_at) == (1, first.finished_at)
    assert [each.score for each in influences(held, ident)] == [each.score for each in found]


def test_a_message_about_nothing_is_dropped(held: Resident) -> None:
    ident = new_id()
    carry_out(held, ident, threading.Event())
    assert not influences(held, ident)
    with pytest.raises(NotFound):
        row(held, ident)


def test_two_workers_at_once_do_it_once(held: Resident) -> None:
    ident = queued(held)
    other = replace(held, presence=Presence(held.db, model_id=new_id(), device="cpu", every_s=60.0))
    threads = [threading.Thread(target=carry_out, args=(each, ident, threading.Event())) for each in (held, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (row(held, ident).status, row(held, ident).attempts) == (Status.SUCCEEDED, 1)


def truncated_mp3() -> bytes:
    whole = sounds.encode(Sound(seconds=20, rate=44_100).samples(), 44_100, "MP3")
    return whole[: len(whole) // 2]


def hours() -> bytes:
    """Two hours that the header says nothing about."""
    tone = Sound(seconds=4, rate=RATE).samples()
    return sounds.flac_with_length(sounds.encode(np.tile(tone, (1800, 1)), RATE, "FLAC"), 0)


BAD = {
    "truncated": truncated_mp3,
    "too-short": lambda: Sound(seconds=0.2, rate=RATE).encode(),
    "silent": lambda: sounds.encode(np.zeros((2 * RATE, 1), np.float32), RATE),
    "not-finite": lambda: sounds.encode(np.full((2 * RATE, 1), np.nan, np.float32), RATE, subtype="FLOAT"),
    "too-long": hours,
}


@pytest.mark.parametrize("kind", BAD)
def test_what_only_decoding_shows_fails_the_job_at_once(held: Resident, kind: str) -> None:
    done = do(held, queued(held, BAD[kind]()))
    assert (done.status, done.error_type, done.attempts) == (Status.FAILED, kind, 1)
    assert done.error_detail


def test_no_samples_at_all_fail_the_job(held: Resident) -> None:
    done = do(held, queued(held, sounds.wav_header(RATE, 1, 0)))
    assert (done.status, done.error_type) == (Status.FAILED, "too-short")


def test_a_stored_track_that_is_gone_fails_the_job(held: Resident) -> None:
    ident = queued(held)
    held.storage.delete(row(held, ident).audio_key)
    assert do(held, ident).error_type == "audio-missing"


def test_a_job_that_is_canceled_while_it_runs_ends_canceled(held: Resident) -> None:
    ident = queued(held, LONG_TRACK)

    def cancel() -> None:
        with transaction(held.db) as session:
            service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)

    thread = meanwhile(held, ident, cancel)
    done = do(held, ident)
    thread.join()
    assert done.status == Status.CANCELED
    assert influences(held, ident) == []


def test_a_worker_that_leaves_gives_the_job_back_for_free(held: Resident) -> None:
    ident, leaving = queued(held, LONG_TRACK), threading.Event()
    thread = meanwhile(held, ident, leaving.set)
    left = do(held, ident, leaving)
    thread.join()
    assert (left.status, left.attempts, left.lease_token) == (Status.QUEUED, 0, None)
    assert (do(held, ident).status, row(held, ident).attempts) == (Status.SUCCEEDED, 1)


def test_a_worker_that_lost_its_lease_writes_nothing(held: Resident) -> None:
    ident, token = queued(held, LONG_TRACK), new_id()

    def take_over() -> None:
        with transaction(held.db) as session:
            session.execute(update(Attribution).where(Attribution.id == ident).values(lease_token=token))

    thread = meanwhile(held, ident, take_over)
    after = do(held, ident)
    thread.join()
    assert (after.status, after.lease_token) == (Status.RUNNING, token)
    assert influences(held, ident) == []


class Broken:
    """An engine that fails in a way that nobody foresaw."""

    def __init__(self, engine: Engine) -> None:
        self.index_digest = engine.index_digest

    def attribute(self, query: Any, report: Any) -> Any:
        report("encoding", 0.0)
        raise ZeroDivisionError


def test_what_nobody_foresaw_is_tried_again_and_then_fails(held: Resident) -> None:
    broken = replace(held, engine=Broken(held.engine))
    ident = queued(held)
    assert do(broken, ident).status == Status.QUEUED
    last = do(broken, ident)
    assert (last.status, last.error_type, last.attempts) == (Status.FAILED, "internal", 2)
    assert "ZeroDivision" not in (last.error_detail or "")


def registered(held: Resident, folder: Path) -> str:
    with transaction(held.db) as session:
        return register_model(session, DEFAULT_TENANT, folder, "starter").index_digest


def test_a_version_that_is_registered_while_the_worker_runs_is_loaded(held: Resident, own_folder: Path) -> None:
    first = registered(held, own_folder)
    before = queued(held)
    do(held, before)
    report = [(each.song_id, each.score) for each in influences(held, before)]
    second = remove(own_folder / "index", ["cedar"]).index_digest
    waiting = queued(held)
    assert registered(held, own_folder) == second
    done = do(held, waiting)
    assert (done.status, done.index_digest, len(influences(held, waiting))) == (Status.SUCCEEDED, second, 7)
    assert (held.engine.index_digest, [each.index_digest for each in held.others]) == (second, [first])
    assert [(each.song_id, each.score) for each in influences(held, before)] == report
    again = repeated(held, before)
    done = do(held, again)
    assert (done.repeats, done.index_digest, len(influences(held, again))) == (before, second, 7)


def repeated(held: Resident, ident: str) -> str:
    with transaction(held.db) as session:
        found = service.repeat(session, tenant_id=DEFAULT_TENANT, attribution_id=ident, settings=held.settings)
        return found.id


def test_no_more_versions_are_held_than_allowed(held: Resident, own_folder: Path) -> None:
    frugal = replace(held, settings=held.settings.model_copy(update={"held_versions": 1}))
    remove(own_folder / "index", ["cedar"])
    digest = registered(held, own_folder)
    assert do(frugal, queued(held)).index_digest == digest
    assert frugal.others == ()


def test_a_version_that_cannot_be_loaded_waits_for_a_worker_that_can(held: Resident, own_folder: Path) -> None:
    remove(own_folder / "index", ["cedar"])
    registered(held, own_folder)
    ident = queued(held)
    elsewhere = own_folder.rename(own_folder.with_name("elsewhere"))
    loaded = held.engine
    assert do(held, ident).status == Status.QUEUED
    assert held.engine is loaded
    elsewhere.rename(own_folder)
    assert do(held, ident).status == Status.SUCCEEDED


def test_a_job_whose_worker_was_killed_is_done_by_the_next(held: Resident) -> None:
    ident = queued(held)
    with transaction(held.db) as session:
        gone = held.settings.model_copy(update={"lease_seconds": 0.001, "heartbeat_seconds": 0.0001})
        assert lease.claim(session, attribution_id=ident, worker_id=new_id(), settings=gone)
    time.sleep(0.01)
    with transaction(held.db) as session:
        assert sweeping.lapse(session, settings=held.settings) == 1
    assert (do(held, ident).status, row(held, ident).attempts) == (Status.SUCCEEDED, 2)
