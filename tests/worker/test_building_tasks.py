"""An index built by several builders over a real broker: killed, given damaged files, watched, grown."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import select

from app.builds import service
from app.builds.service import NewBuild, Standing
from app.catalogue import registry
from app.config import Settings
from app.db import Database, engines, reading, transaction
from app.errors import Conflict
from app.migrate import upgrade
from app.models import DEFAULT_TENANT, BuildPiece, Making
from app.storage import Storage, key_of
from app.sweeper import run as sweep
from bench import tiny
from tests.processes import QUICK, Running, kill, running, until
from tests.services import Valkey
from worker.build import background, subject
from worker.building import Material, build
from worker.diffusion.stable_audio import Sampling, load
from worker.engine import Engine
from worker.manifest import IndexConfig
from worker.shards import file_digest
from worker.training import TrainingSet

CELERY = ("celery", "--app", "worker.builder:celery", "worker", "--queues", service.QUEUE, "--loglevel", "INFO")
# Draws enough that a piece takes some heartbeats on an idle machine too: tests catch builders in the middle of one.
CONFIG = json.loads(json.dumps(asdict(tiny.CONFIG) | {"songs_per_shard": 2, "draws": 128}))
HOW = {"config": CONFIG, "background": 4, "steps": 2, "batch": 32}


class Site:
    """A database, a broker, a storage, a sweeper, and a model without an index; builders are started by the tests."""

    def __init__(self, settings: Settings, db: Database, folder: Path, training: TrainingSet) -> None:
        self.settings, self.db, self.folder, self.training = settings, db, folder, training
        self.storage = Storage.open(settings.storage_url)

    def submit(self, first: int = 0, last: int = 8, *, grows: bool = False) -> str:
        path = self.settings.data_dir / "training"
        self.training.part(first, last).save(path)
        key = key_of(DEFAULT_TENANT, file_digest(path))
        self.storage.put(path, key)
        wanted = NewBuild("tiny", str(self.folder), key, file_digest(path), grows, {} if grows else HOW)
        with transaction(self.db) as session:
            return service.submit(session, tenant_id=DEFAULT_TENANT, wanted=wanted, settings=self.settings)

    def standing(self, ident: str) -> Standing:
        with reading(self.db) as session:
            return service.standing(session, tenant_id=DEFAULT_TENANT, named=ident)

    def ended(self, ident: str) -> Standing:
        until(lambda: self.standing(ident).status in {Making.SUCCEEDED, Making.FAILED})
        return self.standing(ident)

    def pieces(self, ident: str) -> dict[str, BuildPiece]:
        with reading(self.db) as session:
            return {row.name: row for row in session.scalars(select(BuildPiece).where(BuildPiece.build_id == ident))}

    def running(self, ident: str, prefix: str) -> BuildPiece | None:
        rows = (row for name, row in self.pieces(ident).items() if name.startswith(prefix))
        return next((row for row in rows if row.status == Making.RUNNING and row.progress > 0), None)


@pytest.fixture(scope="module")
def training(tiny_folder: Path) -> TrainingSet:
    return tiny.training_set(load(tiny_folder / "pipeline", "cpu"))


@pytest.fixture
def site(tiny_folder: Path, tmp_path: Path, training: TrainingSet, valkey: Valkey) -> Iterator[Site]:
    folder = shutil.copytree(tiny_folder, tmp_path / "model", ignore=shutil.ignore_patterns("index"))
    settings = Settings(data_dir=tmp_path / "site", broker_url=valkey.url, max_attempts=3, **QUICK)
    upgrade(settings)
    stop = threading.Event()
    sweeper = threading.Thread(target=sweep, args=(settings, stop))
    with closing(engines(settings)) as db:
        sweeper.start()
        yield Site(settings, db, folder, training)
        stop.set()
        sweeper.join()


@contextmanager
def builders(site: Site, count: int) -> Iterator[list[Running]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(running(site.settings, f"builder-{at}", *CELERY, "--hostname", f"builder-{at}@%h"))
            for at in range(count)
        ]


def child_of(builder: Running) -> int:
    """The pid of the process that does the work."""
    children = Path(f"/proc/{builder.process.pid}/task/{builder.process.pid}/children")
    pids = (int(pid) for pid in children.read_text().split())
    return next(pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())


def kill_in_the_middle(site: Site, ident: str, among: list[Running]) -> str:
    """Kill the child that makes a shard of rows while it does so, and return the shard's name."""
    while True:
        victim = until(lambda: site.running(ident, "rows-"))
        child = child_of(next(each for each in among if each.said(victim.name)))
        os.kill(child, signal.SIGSTOP)
        if site.pieces(ident)[victim.name].lease_token == victim.lease_token:
            kill(child)
            if site.pieces(ident)[victim.name].sha256 is None:  # it may have been about to say that it was done
                return victim.name
        else:
            os.kill(child, signal.SIGCONT)


def damage(site: Site, ident: str) -> str:
    """Flip a bit of a finished shard in the storage, and return the shard's name."""

    def finished() -> BuildPiece | None:
        rows = site.pieces(ident).items()
        return next((row for name, row in rows if name.startswith("rows-") and row.sha256), None)

    piece = until(finished)
    path = Path(site.settings.storage_url.removeprefix("file://")) / key_of(DEFAULT_TENANT, piece.sha256)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return piece.name


def alone(site: Site) -> str:
    """The digest of the index that one process makes of the same songs, without any of this."""
    model = load(site.folder / "pipeline", "cpu")
    material = Material(site.training, background(model, tiny.PROMPTS, HOW["background"], Sampling(steps=HOW["steps"])))
    about = subject(model, site.folder, HOW["batch"])
    return build(about, material, IndexConfig.from_json(CONFIG), site.settings.data_dir / "alone").index_digest


def test_two_builders_one_killed_and_a_damaged_shard_end_as_one_undisturbed_process(site: Site) -> None:
    ident = site.submit()
    with builders(site, 2) as both:
        killed = kill_in_the_middle(site, ident, both)
        standing = site.standing(ident)
        assert (standing.status, standing.pieces) == (Making.RUNNING, 1 + 4 + 3 + 4 + 1)
        assert 0 <= standing.progress < 1
        damaged = damage(site, ident)
        assert not (site.folder / "index" / "manifest.json").exists()
        until(lambda: site.standing(ident).eta)
        done, pieces = site.ended(ident), site.pieces(ident)
        assert sum(builder.said("piece refused") for builder in both) == 1
    assert (done.status, done.progress, done.error) == (Making.SUCCEEDED, 1.0, None)
    assert (pieces[killed].attempts, pieces[damaged].attempts) == (2, 2)
    assert len({piece.worker_id for piece in pieces.values()}) >= 2
    assert Engine.load(site.folder, "cpu").index_digest == done.index_digest == alone(site)
    with reading(site.db) as session:
        registered = registry.get(session, tenant_id=DEFAULT_TENANT, named="tiny")
    assert (registered.id, registered.index_digest, registered.segments) == (ident, done.index_digest, 32)
    assert not list((site.settings.data_dir / "builds").iterdir())


def test_an_index_grows_by_builders_and_one_that_leaves_gives_its_piece_back(site: Site) -> None:
    catalogue = site.folder / "songs.csv"
    whole = catalogue.read_text().splitlines(keepends=True)
    catalogue.write_text("".join(whole[:7]))
    first = site.submit(0, 6)
    with builders(site, 1) as (leaving,):
        piece = until(lambda: site.running(first, "rows-"))
        leaving.process.send_signal(signal.SIGTERM)
        assert leaving.process.wait(60) == 0
    left = site.pieces(first)[piece.name]  # given back, or just made: not held until its lease lapses
    assert (left.status != Making.RUNNING, left.attempts <= 1) == (True, True)
    with builders(site, 1):
        few = site.ended(first)
        files = {path.name: file_digest(path) for path in (site.folder / "index").glob("*.safetensors")}
        unnamed = site.ended(site.submit(6, 8, grows=True))
        assert (unnamed.status, "songs.csv" in (unnamed.error or "")) == (Making.FAILED, True)
        catalogue.write_text("".join(whole))
        many = site.ended(site.submit(6, 8, grows=True))
    assert (few.status, many.status, many.error) == (Making.SUCCEEDED, Making.SUCCEEDED, None)
    assert {name: file_digest(site.folder / "index" / name) for name in files} == files
    engine = Engine.load(site.folder, "cpu")
    assert (len(engine.index), engine.index.manifest.parent) == (32, few.index_digest)


def test_one_build_at_a_time_in_a_folder(site: Site) -> None:
    site.submit()
    with pytest.raises(Conflict, match="already"):
        site.submit()


def test_what_cannot_be_built_fails_and_says_why(site: Site) -> None:
    (site.folder / "prompts.json").unlink()
    with builders(site, 1):
        done = site.ended(site.submit())
    assert (done.status, done.pieces, done.eta) == (Making.FAILED, 1, None)
    assert "prompts.json" in (done.error or "")
