"""The shipped model at the shipped lease: how soon a job goes on after the worker that held it was killed."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
from sqlalchemy import select

from app.client import Client, Track
from app.db import engines, reading
from app.models import Worker
from bench.chaos import victims
from bench.chaos.recovery import Recoveries
from bench.chaos.setups import SETUPS, Wanted
from bench.chaos.tracks import track

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.db import Database
    from bench.chaos.setups import Service

PATIENCE_SECONDS = 900.0
LOOK_SECONDS = 0.1
SECONDS, RATE = 10.0, 16_000


def run(name: str, kills: int, folder: Path, model: Path) -> dict[str, Any]:
    """Kill so many workers in the middle of a job, child and parent in turn, and return how long each job waited.

    On the production-like set-up both workers are killed before either's job goes on.
    """
    with ExitStack() as stack:
        service = stack.enter_context(SETUPS[name](Wanted(folder / name, model, {})))
        db = stack.enter_context(closing(engines(service.settings)))
        client = stack.enter_context(Client(service.url))
        sound = folder / name / "track.wav"
        sound.write_bytes(track(0, SECONDS, RATE))
        workers = {"embedded": 1, "production": 2}[name]
        loads = _loads(service, db, workers)
        recoveries, kinds = Recoveries(db), []
        while len(kinds) < kills:
            for _ in range(min(workers, kills - len(kinds))):
                client.post(Track(sound))
                kinds.append(_kill(service, recoveries, ("child", "parent")[len(kinds) % 2]))
            _until(lambda: recoveries.over() and len(_seen(service, db)) >= workers, recoveries)
            print(f"{name}: {len(kinds)} kills, {recoveries.all[-1]}", flush=True)
    return _summary(recoveries, kinds, loads, service.settings.lease_seconds)


def _kill(service: Service, recoveries: Recoveries, part: str) -> str:
    """Kill a worker that holds a job which no kill has hit yet."""
    hit = {each.id for each in recoveries.all}
    while True:
        child, held = _until(lambda: _busy(service, recoveries.db, hit), recoveries)
        child.suspend()
        victim = child if part == "child" else child.parent()
        if victims.held_by(recoveries.db, child.pid) == held and victim is not None:
            moment = datetime.now(UTC)
            victim.kill()
            if part == "parent":
                child.resume()
            recoveries.lost(held.id, held.attempt, moment)
            return part
        child.resume()


def _busy(service: Service, db: Database, hit: set[str]) -> tuple[psutil.Process, victims.Held] | None:
    for child in service.started.find("child"):
        held = victims.held_by(db, child.pid)
        if held and held.id not in hit:
            return child, held
    return None


def _loads(service: Service, db: Database, workers: int) -> list[float]:
    """Return the seconds from the start of each worker to its first sign of life, the model being loaded then."""
    return [
        started - psutil.Process(pid).parent().create_time()
        for pid, started in _until(lambda: _all(service, db, workers))
    ]


def _all(service: Service, db: Database, workers: int) -> list[tuple[int, float]] | None:
    seen = _seen(service, db)
    return seen if len(seen) >= workers else None


def _seen(service: Service, db: Database) -> list[tuple[int, float]]:
    """Return pid and start (Unix) of the workers that live."""
    living = {each.pid for each in service.started.find("child")}
    with reading(db) as session:
        rows = session.execute(select(Worker.pid, Worker.started_at)).all()
    return [(pid, started.timestamp()) for pid, started in rows if pid in living]


def _until(look: Callable[[], Any], recoveries: Recoveries | None = None) -> Any:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < limit, "waited in vain"
        if recoveries:
            recoveries.look()
        time.sleep(LOOK_SECONDS)
    return found


def _summary(recoveries: Recoveries, kinds: list[str], loads: list[float], lease_s: float) -> dict[str, Any]:
    allowed = 2 * lease_s + median(loads)
    rows = [
        {"killed": kind, "taken_again_s": each.taken_s, "ended_s": each.ended_s}
        for kind, each in zip(kinds, recoveries.all, strict=True)
    ]
    return {
        "load_average": round(psutil.getloadavg()[2], 1),
        "model_load_s": [round(each, 1) for each in loads],
        "allowed_s": round(allowed, 1),
        **recoveries.summary(lease_s),
        "kills": rows,
        "within": sum(each.taken_s is not None and each.taken_s <= allowed for each in recoveries.all),
        "ended_within": sum(each.ended_s is not None and each.ended_s <= allowed for each in recoveries.all),
    }
