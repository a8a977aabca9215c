"""Two scanners, each with a part of the index, and a worker that asks them: real processes, a real broker."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import select

from app.attributions import service
from app.attributions.intake import Intake, submit
from app.config import Settings
from app.db import Database, reading
from app.models import DEFAULT_TENANT, Attribution, Influence
from app.storage import Storage
from tests.app.sounds import Sound
from tests.processes import QUICK, Running, kill, running, swept, until, worker_child
from tests.services import Valkey
from worker.engine import Engine
from worker.finding import here
from worker.scattering import scatter

TRACK = Sound(seconds=1.5, rate=8000).encode()
ASK = 1.0
"""Seconds that a worker waits for a scanner here."""


def celery(application: str) -> tuple[str, ...]:
    calm = ("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat")
    return ("celery", "--app", f"worker.{application}:celery", "worker", *calm, "--hostname", f"{application}@%h")


class Site:
    """A database with the tiny model, a broker and a sweeper; tracks are posted, and their results read."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self.settings, self.db = settings, db

    def asked(self) -> list[tuple[Any, ...]]:
        """Post the track anew and return its ranking, once there is one."""
        intake = Intake(self.db, Storage.open(self.settings.storage_url), self.settings)
        ident = submit(intake, [TRACK], tenant_id=DEFAULT_TENANT, request=service.NewAttribution()).id
        until(lambda: self._row(ident).finished_at is not None)
        assert self._row(ident).status == "succeeded"
        told = (Influence.rank, Influence.song_id, Influence.score, Influence.share, Influence.matches)
        with reading(self.db) as session:
            rows = session.execute(
                select(*told).where(Influence.attribution_id == ident).order_by(Influence.rank)
            ).all()
        assert len(rows) == 8
        return [tuple(row) for row in rows]

    def _row(self, ident: str) -> Attribution:
        with reading(self.db) as session:
            return service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)


@pytest.fixture
def unsubscribed(valkey: Valkey) -> Iterator[None]:
    """Nobody can subscribe to an answer: a subscription that begins as the answer comes may miss it."""
    with valkey.client() as client:
        client.acl_setuser("default", enabled=True, commands=["-subscribe"])
        yield
        client.acl_setuser("default", enabled=True, commands=["+subscribe"])


@pytest.fixture
def site(tiny_folder: Path, tmp_path: Path, valkey: Valkey) -> Iterator[Site]:
    settings = Settings(
        data_dir=tmp_path, broker_url=valkey.url, model_name="tiny", index_parts=2, scan_seconds=ASK, **QUICK
    )
    with swept(settings, tiny_folder) as db:
        yield Site(settings, db)


def scanner(site: Site, part: int) -> Any:
    settings = site.settings.model_copy(update={"index_part": part})
    return running(settings, f"scanner-{part}", *celery("scanner"))


@pytest.mark.usefixtures("unsubscribed")
def test_two_scanners_answer_as_one_worker_does_and_one_that_dies_costs_time_alone(site: Site) -> None:
    whole = site.settings.model_copy(update={"index_parts": 0})
    with running(whole, "alone", *celery("celery")):
        alone = site.asked()
    with ExitStack() as stack:
        scanners = [stack.enter_context(scanner(site, part)) for part in (1, 2)]
        for each in scanners:
            until(lambda each=each: each.said("part opened"))
        worker: Running = stack.enter_context(running(site.settings, "worker", *celery("celery")))
        worker_child(site.db)
        assert site.asked() == alone
        assert [each.said("Task rootnote.scan") > 0 for each in scanners] == [True, True]
        assert worker.said("part not scanned elsewhere") == 0
        kill(scanners[1].process.pid)
        assert site.asked() == alone
        assert worker.said("part not scanned elsewhere") == 1


def test_without_a_broker_a_worker_scans_all_parts_itself(
    tiny_engine: Engine, tiny_folder: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, broker_url=f"redis+socket://{tmp_path}/none", index_parts=3)
    index = tiny_engine.index
    solved = index.solved(index.background_rows.floats())
    found, expected = scatter(settings, str(tiny_folder), index)(solved, 2), here(index)(solved, 2)
    places = torch.arange(len(index))
    assert torch.equal(found.sums, expected.sums)
    assert torch.equal(found.scores[places], expected.scores[places])
    assert torch.equal(found.window[places], expected.window[places])
