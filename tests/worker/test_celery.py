"""The worker as it runs in earnest: Celery's parent, its spawned child, a real broker between us."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.attributions import service
from app.attributions.intake import Intake, submit
from app.config import Settings
from app.db import Database, reading, transaction
from app.models import DEFAULT_TENANT, Attribution, Influence, Status, Worker
from app.queue import producer
from app.storage import Storage
from tests.app.sounds import Sound
from tests.processes import QUICK, Running, holds_torch, kill, parent_of, running, swept, until, worker_child
from tests.services import Valkey
from worker.celery import celery

TRACK = Sound(seconds=1.5, rate=8000).encode()
LONG_TRACK = Sound(seconds=50, rate=8000).encode()
CELERY = ("celery", "--app", "worker.celery:celery", "worker", "--loglevel", "INFO")


class Site:
    """A database with the tiny model, a broker, a sweeper; the workers are started by the tests."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self.settings, self.db = settings, db
        self._intake = Intake(db, Storage.open(settings.storage_url), settings)

    def post(self, audio: bytes = TRACK, method: str = "index") -> str:
        request = service.NewAttribution(method=method)
        return submit(self._intake, [audio], tenant_id=DEFAULT_TENANT, request=request).id

    def row(self, ident: str) -> Attribution:
        with reading(self.db) as session:
            return service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)

    def ended(self, ident: str) -> Attribution:
        until(lambda: self.row(ident).finished_at is not None)
        return self.row(ident)

    def in_the_middle(self, ident: str) -> None:
        """Wait until the job is past decoding."""
        until(lambda: self.row(ident).stage not in {None, "decoding"})

    def count(self, table: type[Influence] | type[Worker]) -> int:
        with reading(self.db) as session:
            return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture(scope="module")
def site(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, valkey_server: Valkey) -> Iterator[Site]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("site"),
        broker_url=valkey_server.url,
        model_name="tiny",
        max_seconds=60,
        **QUICK,
    )
    with swept(settings, tiny_folder) as db:
        yield Site(settings, db)


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[Running]:
    with running(site.settings, "worker", *CELERY) as worker:
        worker_child(site.db)
        yield worker


def test_torch_stays_out_of_the_parent_s_modules() -> None:
    code = "import sys; from worker.celery import celery; celery.loader.import_default_modules(); print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "worker.tasks" in names
    assert not {"torch", "torchaudio", "diffusers", "transformers"} & set(names)


def test_only_json_is_taken_and_nothing_is_kept_by_the_broker() -> None:
    assert celery.conf.accept_content == ["json"]
    assert celery.conf.task_acks_late is False
    assert celery.conf.task_ignore_result is True


def test_two_jobs_need_one_model(site: Site, worker: Running) -> None:
    assert [site.ended(ident).status for ident in (site.post(), site.post(method="unlearn"))] == ["succeeded"] * 2
    assert worker.said("engine loaded") == 1
    child = worker_child(site.db)
    assert holds_torch(child)
    assert parent_of(child) == worker.process.pid
    assert not holds_torch(worker.process.pid)


def test_a_message_that_is_sent_twice_is_harmless(site: Site, worker: Running) -> None:
    ident = site.post()
    with transaction(site.db) as session:
        for _ in range(3):
            service.ring(session, ident, "tiny", site.settings)
    assert site.ended(ident).attempts == 1
    until(lambda: worker.said("nothing to do"))
    assert site.row(ident).attempts == 1


def test_a_message_that_is_code_is_refused_and_noise_is_survived(
    site: Site, worker: Running, valkey_server: Valkey
) -> None:
    producer(valkey_server.url).send_task(service.TASK, args=["code"], serializer="pickle", queue="attribute.tiny")
    until(lambda: worker.said("Refusing to deserialize"))
    with valkey_server.client() as client:
        client.lpush("attribute.tiny", '{"body": "noise"}')
    assert site.ended(site.post()).status == Status.SUCCEEDED


def test_a_lost_message_is_rung_again(site: Site, worker: Running, valkey_server: Valkey) -> None:
    lost = site.settings.model_copy(update={"broker_url": f"redis+socket://{site.settings.data_dir}/nobody.sock"})
    intake = Intake(site.db, Storage.open(site.settings.storage_url), lost)
    ident = submit(intake, [TRACK], tenant_id=DEFAULT_TENANT, request=service.NewAttribution()).id
    done = site.ended(ident)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)
    assert done.rings >= 1


def test_a_running_job_can_be_canceled(site: Site, worker: Running) -> None:
    ident = site.post(LONG_TRACK)
    site.in_the_middle(ident)
    with transaction(site.db) as session:
        service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)
    assert site.ended(ident).status == Status.CANCELED


def test_a_job_survives_the_kill_of_its_child(site: Site, worker: Running) -> None:
    before, child = site.count(Influence), worker_child(site.db)
    ident = site.post(LONG_TRACK)
    site.in_the_middle(ident)
    kill(child)
    done = site.ended(ident)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 2)
    assert site.count(Influence) == before + 8
    assert worker_child(site.db) != child


def test_a_worker_that_is_asked_to_leave_hands_its_job_back(site: Site, worker: Running) -> None:
    worker_child(site.db)
    ident = site.post(LONG_TRACK)
    site.in_the_middle(ident)
    worker.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert worker.process.wait(30) == 0
    assert time.monotonic() - began < 15
    left = site.row(ident)
    assert (left.status, left.attempts) == (Status.QUEUED, 0)


def test_a_job_that_takes_too_long_is_ended(site: Site) -> None:
    hasty = site.settings.model_copy(update={"job_seconds": 1.0})
    with running(hasty, "hasty", *CELERY):
        ident = site.post(Sound(seconds=59, rate=8000).encode())
        done = site.ended(ident)
    assert (done.status, done.error_type, done.attempts) == (Status.FAILED, "took-too-long", 1)


def test_a_worker_whose_model_is_not_registered_leaves(site: Site) -> None:
    lonely = site.settings.model_copy(update={"model_name": "unheard-of"})
    with running(lonely, "lonely", *CELERY) as worker:
        worker.process.wait(60)
        assert worker.said("unheard-of")
