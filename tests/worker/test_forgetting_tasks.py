"""One counterfactual, done for real on the tiny model: whatever happens in it, its row ends as it should, once."""

import io
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from sqlalchemy import select, update

from app import leasing
from app.attributions import service as attributions
from app.counterfactuals import lease, service, sweeping
from app.db import reading, transaction
from app.models import DEFAULT_TENANT, Attribution, Counterfactual, Model, Song, Status, Take, TrainingSong, new_id
from bench import tiny
from tests.worker.test_tasks import PATIENCE, do, held, influences, queued, quick  # noqa: F401  (fixtures)
from worker.forgetting_tasks import carry_out
from worker.resident import Resident

SONG = tiny.SONGS[1]
SEED = 11


@pytest.fixture
def track(held: Resident) -> str:  # noqa: F811
    """A succeeded attribution of a track that the tiny model made."""
    audio = held.engine.model.generate(SONG.caption, SEED)
    file = io.BytesIO()
    soundfile.write(file, audio.T, tiny.RATE, format="WAV", subtype="FLOAT")
    ident = queued(held, file.getvalue(), prompt=SONG.caption, seed=SEED)
    assert do(held, ident).status == Status.SUCCEEDED
    return ident


def song_id(held: Resident, key: str) -> str:  # noqa: F811
    with reading(held.db) as session:
        return session.scalars(select(Song.id).where(Song.key == key)).one()


def asked(held: Resident, track: str, key: str = SONG.key) -> str:  # noqa: F811
    request = service.NewCounterfactual(song_id(held, key))
    with transaction(held.db) as session:
        made = service.create(
            session, tenant_id=DEFAULT_TENANT, attribution_id=track, request=request, settings=held.settings
        )
        return made.id


def row(held: Resident, ident: str) -> Counterfactual:  # noqa: F811
    with reading(held.db) as session:
        return service.get(session, tenant_id=DEFAULT_TENANT, counterfactual_id=ident)


def forgotten(held: Resident, ident: str, leaving: threading.Event | None = None) -> Counterfactual:  # noqa: F811
    carry_out(held, ident, leaving or threading.Event())
    return row(held, ident)


def heard(held: Resident, found: Counterfactual, take: Take) -> np.ndarray:  # noqa: F811
    content = b"".join(held.storage.read(found.audio[take]["key"]))
    assert len(content) == found.audio[take]["bytes"]
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    assert rate == tiny.RATE
    return samples.T


def test_the_song_is_forgotten_measured_and_heard(held: Resident, track: str) -> None:  # noqa: F811
    done = forgotten(held, asked(held, track))
    result = done.result
    assert (done.status, done.attempts, done.error_type, done.stage) == (Status.SUCCEEDED, 1, None, None)
    assert (done.seed, done.prompt, done.control_match) == (SEED, SONG.caption, "artist")
    assert result["song"]["change"]["low"] <= result["song"]["change"]["mean"] <= result["song"]["change"]["high"]
    assert result["likeness"]["spectral_db"] < 0.1
    assert result["likeness"]["waveform"] < 1e-3
    assert set(result["timings"]) == {"decoding", "encoding", "forgetting", "measuring", "generating"}
    takes = {take: heard(held, done, take) for take in Take}
    expected = held.engine.model.generate(SONG.caption, SEED)
    assert np.abs(takes[Take.BASELINE] - expected).max() < 2**-14
    assert not np.array_equal(takes[Take.FORGOTTEN], takes[Take.BASELINE])
    assert not np.array_equal(takes[Take.CONTROL], takes[Take.FORGOTTEN])


def test_the_same_question_has_the_same_recordings(held: Resident, track: str) -> None:  # noqa: F811
    first = forgotten(held, asked(held, track))
    with transaction(held.db) as session:
        again = service.NewCounterfactual(first.song_id, first.prompt, first.seed)
        session.get_one(Counterfactual, first.id).status = Status.FAILED  # so that it is asked anew
        session.flush()
        made = service.create(
            session, tenant_id=DEFAULT_TENANT, attribution_id=track, request=again, settings=held.settings
        )
    second = forgotten(held, made.id)
    assert second.id != first.id
    assert (second.audio, second.control_song_id) == (first.audio, first.control_song_id)
    assert second.result["song"] == first.result["song"]


def test_a_message_that_comes_twice_or_is_about_nothing_does_nothing(held: Resident, track: str) -> None:  # noqa: F811
    ident = asked(held, track)
    first = forgotten(held, ident)
    again = forgotten(held, ident)
    assert (again.attempts, again.finished_at) == (1, first.finished_at)
    carry_out(held, new_id(), threading.Event())


def meanwhile(held: Resident, ident: str, act: Callable[[], None]) -> threading.Thread:  # noqa: F811
    """Do something as soon as the job forgets."""

    def wait() -> None:
        limit = time.monotonic() + PATIENCE
        while row(held, ident).stage in {None, "decoding", "encoding"} and time.monotonic() < limit:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_one_that_is_canceled_while_it_runs_ends_canceled(held: Resident, track: str) -> None:  # noqa: F811
    ident = asked(held, track)

    def cancel() -> None:
        with transaction(held.db) as session:
            service.cancel(session, tenant_id=DEFAULT_TENANT, counterfactual_id=ident)

    thread = meanwhile(held, ident, cancel)
    done = forgotten(held, ident)
    thread.join()
    assert (done.status, done.audio) == (Status.CANCELED, {})


def test_a_worker_that_leaves_gives_it_back_for_free(held: Resident, track: str) -> None:  # noqa: F811
    ident, leaving = asked(held, track), threading.Event()
    thread = meanwhile(held, ident, leaving.set)
    left = forgotten(held, ident, leaving)
    thread.join()
    assert (left.status, left.attempts) == (Status.QUEUED, 0)
    assert forgotten(held, ident).status == Status.SUCCEEDED


def test_one_whose_worker_was_killed_is_done_by_the_next(held: Resident, track: str) -> None:  # noqa: F811
    ident = asked(held, track)
    gone = held.settings.model_copy(update={"lease_seconds": 0.001, "heartbeat_seconds": 0.0001})
    with transaction(held.db) as session:
        lost = lease.take(session, counterfactual_id=ident, worker_id=new_id(), settings=gone)
    assert lost is not None
    time.sleep(0.01)
    with transaction(held.db) as session:
        assert sweeping.sweep(session, settings=held.settings) >= 1
    done = forgotten(held, ident)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 2)
    with transaction(held.db) as session:
        assert leasing.beat(session, claim=lost, settings=held.settings) is leasing.Beat.LOST


def test_a_song_taken_down_since_fails_with_its_type(held: Resident, track: str) -> None:  # noqa: F811
    ident = asked(held, track)
    with transaction(held.db) as session:
        session.execute(update(TrainingSong).where(TrainingSong.key == SONG.key).values(key="gone"))
    done = forgotten(held, ident)
    assert (done.status, done.error_type, done.attempts) == (Status.FAILED, "not-in-training-set", 1)


def test_a_stored_track_that_is_gone_fails_with_its_type(held: Resident, track: str) -> None:  # noqa: F811
    ident = asked(held, track)
    with reading(held.db) as session:
        key = session.get_one(Attribution, track).audio_key
    held.storage.delete(key)
    assert forgotten(held, ident).error_type == "audio-missing"


def test_the_ranking_of_the_track_stays(held: Resident, track: str) -> None:  # noqa: F811
    before = [(each.song_id, each.score) for each in influences(held, track)]
    forgotten(held, asked(held, track))
    again = queued_again(held, track)
    assert [(each.song_id, each.score) for each in influences(held, again)] == before


def queued_again(held: Resident, track: str) -> str:  # noqa: F811
    with transaction(held.db) as session:
        made = attributions.repeat(session, tenant_id=DEFAULT_TENANT, attribution_id=track, settings=held.settings)
        assert (made.seed, isinstance(made.model, Model)) == (SEED, True)
    do(held, made.id)
    return made.id
