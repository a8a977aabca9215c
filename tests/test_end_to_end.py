"""The service as a newcomer starts it: `rootnote up`, real HTTP, broker and worker, and a real, if tiny, model."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select

from app import errors
from app.attributions.schemas import Attribution
from app.client import Client, Track
from app.config import Settings
from app.db import Database, engines, reading
from app.demo import free_port
from app.models import Attribution as Row
from app.models import Influence, Status, Take
from tests import services
from tests.app import sounds
from tests.app.sounds import Sound
from tests.processes import QUICK, Running, alive, kill, parent_of, running, until, worker_child
from tests.services import Valkey

RATE = 8000
SONGS = 8


@dataclass(frozen=True)
class Service:
    """A running service with everything that a test may look into."""

    client: Client
    db: Database
    up: Running
    settings: Settings
    folder: Path

    def track(self, audio: bytes, **choices: Any) -> Track:
        path = self.folder / "track.wav"
        path.write_bytes(audio)
        return Track(path, **choices)

    def post_long(self) -> str:
        """Post a track that takes some seconds, and wait until it is past decoding."""
        ident = self.client.post(self.track(Sound(seconds=50, rate=RATE).encode())).id
        until(lambda: self.client.get(ident).stage not in {None, "decoding"})
        return ident

    def ended(self, ident: str) -> Attribution:
        until(lambda: self.client.get(ident).finished_at is not None)
        return self.client.get(ident)

    def influences(self, ident: str) -> int:
        """How many rows the database holds of a result."""
        with reading(self.db) as session:
            counted = select(func.count()).where(Influence.attribution_id == ident)
            return session.scalar(counted) or 0


@contextmanager
def serving(tiny_folder: Path, folder: Path, **given: Any) -> Iterator[Service]:
    place = {"data_dir": folder / "data", "models": (tiny_folder,), "model_name": tiny_folder.name}
    settings = Settings(**place, port=free_port("127.0.0.1", 0), max_seconds=60, **QUICK, **given)
    with (
        running(settings, "up", "app.cli", "up") as up,
        Client(f"http://127.0.0.1:{settings.port}") as client,
        closing(engines(settings)) as db,
    ):
        until(lambda: client.ready() or up.process.poll() is not None)
        assert up.process.poll() is None
        yield Service(client, db, up, settings, folder)


def broker_of(service: Service) -> int:
    """The pid of the embedded broker, once it answers."""

    def look() -> int:
        try:
            with Redis(unix_socket_path=str(service.settings.data_dir / "valkey.sock"), socket_timeout=2) as client:
                return int(client.info("server")["process_id"])
        except (RedisError, OSError):
            return 0

    return until(look)


@pytest.fixture(scope="module")
def service(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The embedded default: SQLite, the embedded broker, a local folder."""
    with serving(tiny_folder, tmp_path_factory.mktemp("embedded")) as service:
        yield service


@pytest.mark.parametrize("method", ["index", "unlearn"])
def test_a_track_is_answered_with_the_songs_behind_it(service: Service, method: str) -> None:
    seen: list[Attribution] = []
    track = service.track(Sound(seconds=3, rate=RATE).encode(), prompt="slow low organ", method=method)
    done = service.client.attribute(track, seen.append)
    assert done.result is not None
    assert done.result.unattributed is not None
    assert seen[0].status in {Status.QUEUED, Status.RUNNING}
    rows = list(service.client.influences(done.id))
    assert [row.rank for row in rows] == list(range(1, SONGS + 1))
    assert sum(row.share for row in rows) + done.result.unattributed == pytest.approx(1.0)
    assert done.result.method == method
    found = next(service.client.history(rows[0].song.id))
    assert (found.attribution.id, found.rank, found.score) == (done.id, 1, rows[0].score)


def test_the_same_track_gives_the_same_answer(service: Service) -> None:
    track = service.track(Sound(seconds=3, rate=RATE).encode())
    first, second = (list(service.client.influences(service.client.attribute(track).id)) for _ in range(2))
    assert [(row.song.id, row.score, row.share) for row in first] == [
        (row.song.id, row.score, row.share) for row in second
    ]


def test_refusals_come_back_as_what_they_are(service: Service) -> None:
    with pytest.raises(errors.NotAudio):
        service.client.post(service.track(b"these are words"))
    with pytest.raises(errors.UnknownModel):
        service.client.post(service.track(Sound().encode(), model="unheard-of"))
    with pytest.raises(errors.Silent):
        service.client.attribute(service.track(sounds.encode(np.zeros((2 * RATE, 1)), RATE)))
    with pytest.raises(errors.NotFound):
        service.client.get("01980000-0000-7000-8000-000000000000")


def test_a_running_job_can_be_canceled(service: Service) -> None:
    ident = service.post_long()
    service.client.cancel(ident)
    assert service.ended(ident).status == Status.CANCELED
    assert service.influences(ident) == 0


def test_a_job_survives_the_kill_of_its_worker(service: Service) -> None:
    child = worker_child(service.db)
    parent = parent_of(child)
    ident = service.post_long()
    kill(parent)
    until(lambda: not alive(child), 10.0)
    done = service.ended(ident)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 2)
    assert service.influences(ident) == SONGS
    assert service.up.said("worker ended (SIGKILL)") == 1


def test_a_song_is_forgotten_and_heard_also_when_the_worker_is_killed(service: Service, tmp_path: Path) -> None:
    track = service.track(Sound(seconds=5, rate=RATE).encode(), prompt="slow low organ", seed=3)
    client, done = service.client, service.client.attribute(track)
    songs = [row.song.id for row in client.influences(done.id)]
    found = client.forget(done.id, songs[0])
    assert found.result is not None
    assert (found.seed, found.prompt, found.attempts, set(found.result.audio)) == (3, "slow low organ", 1, set(Take))
    for take in Take:
        client.take(found.id, take, tmp_path / "take.flac")
        samples, rate = soundfile.read(tmp_path / "take.flac")
        assert (rate, len(samples) / rate) == (RATE, pytest.approx(found.result.audio[take].seconds))
    waiting = client.ask_to_forget(done.id, songs[1]).id
    until(lambda: client.counterfactual(waiting).stage in {"forgetting", "measuring", "generating"})
    kill(parent_of(worker_child(service.db)))
    until(lambda: client.counterfactual(waiting).finished_at is not None)
    again = client.counterfactual(waiting)
    assert (again.status, again.attempts) == (Status.SUCCEEDED, 2)


def test_a_killed_broker_costs_no_job(service: Service) -> None:
    kill(broker_of(service))
    ident = service.client.post(service.track(Sound(seconds=3, rate=RATE).encode())).id
    done = service.ended(ident)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)


def test_a_frozen_broker_does_not_keep_the_sender_waiting(service: Service) -> None:
    pid = broker_of(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        ident = service.client.post(service.track(Sound(seconds=3, rate=RATE).encode())).id
        assert service.client.get(ident).status == Status.QUEUED
    finally:
        os.kill(pid, signal.SIGCONT)
    assert service.ended(ident).status == Status.SUCCEEDED


def test_a_data_folder_is_served_once(service: Service) -> None:
    other = service.settings.model_copy(update={"port": free_port("127.0.0.1", 0)})
    with running(other, "second", "app.cli", "up") as second:
        assert second.process.wait(60) == 1
        assert second.said("already runs on this data folder") == 1
        assert second.said("Traceback") == 0


def test_it_stops_in_order_and_leaves_nothing_behind(service: Service) -> None:
    child = worker_child(service.db)
    ident = service.post_long()
    everyone = [child, parent_of(child), broker_of(service)]
    service.up.process.send_signal(signal.SIGTERM)
    assert service.up.process.wait(60) == 0
    until(lambda: not any(map(alive, everyone)), 5.0)
    with reading(service.db) as session:
        left = session.get_one(Row, ident)
        assert (left.status, left.attempts) == (Status.QUEUED, 0)


def test_postgres_and_a_broker_of_one_s_own(tiny_folder: Path, tmp_path: Path, postgres_server: str) -> None:
    """With the broker down a track is taken all the same, and attributed when it is back."""
    with (
        services.postgres_database(postgres_server) as url,
        closing(Valkey()) as valkey,
    ):
        valkey.start()
        with serving(tiny_folder, tmp_path, database_url=url, broker_url=valkey.url) as service:
            track = service.track(Sound(seconds=3, rate=RATE).encode())
            first = service.client.attribute(track)
            valkey.kill()
            waiting = service.client.post(track)
            assert waiting.status == Status.QUEUED
            assert not service.client.ready()
            valkey.start()
            second = service.ended(waiting.id)
            assert second.status == Status.SUCCEEDED
            assert service.influences(first.id) == service.influences(second.id) == SONGS
            service.client.cancel(waiting.id)
            assert service.client.get(waiting.id).status == Status.SUCCEEDED
