"""The service's own processes, run by the tests as they run in earnest."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select

from app import supervisor
from app.catalogue.registry import register_model
from app.config import Settings
from app.db import Database, engines, reading, transaction
from app.migrate import upgrade
from app.models import DEFAULT_TENANT, Worker
from app.sweeper import run as sweep

PATIENCE = 120.0
Seen = TypeVar("Seen")

QUICK: Mapping[str, Any] = {
    "lease_seconds": 4.0,
    "heartbeat_seconds": 0.5,
    "retry_seconds": 0.2,
    "sweep_seconds": 0.2,
    "ring_seconds": 1.0,
    "ring_max_seconds": 2.0,
}
"""Settings under which what takes minutes in earnest takes seconds."""


def until(look: Callable[[], Seen], seconds: float = PATIENCE) -> Seen:
    """Look again and again until there is something, and return it."""
    limit = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)
    return seen


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which a process has these settings."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    if "models" in given:
        given["models"] = os.pathsep.join(map(str, settings.models))
    return {f"ROOTNOTE_{name.upper()}": str(value) for name, value in given.items()}


@dataclass(frozen=True)
class Running:
    """A process of ours, and where it logs."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self, words: str) -> int:
        """How often these words stand in the log."""
        return self.log.read_text().count(words)


@contextmanager
def running(settings: Settings, name: str, *command: str) -> Iterator[Running]:
    """Run `python -m …` with these settings; its log is shown when the block fails."""
    log = settings.data_dir / "logs" / f"{name}.log"
    process = supervisor.start((sys.executable, "-m", *command), log, environment(settings))
    try:
        yield Running(process, log)
    except BaseException:
        for each in sorted(log.parent.glob("*.log")):
            sys.stderr.write(f"--- {each.name}\n{supervisor.tail(each, 60)}\n")
        raise
    finally:
        supervisor.end(process, 60.0)


@contextmanager
def swept(settings: Settings, model: Path) -> Iterator[Database]:
    """A migrated database in which the model in a folder is registered as "tiny", with a sweeper at work."""
    upgrade(settings)
    stop = threading.Event()
    sweeper = threading.Thread(target=sweep, args=(settings, stop))
    with closing(engines(settings)) as db:
        with transaction(db) as session:
            register_model(session, DEFAULT_TENANT, model, "tiny")
        sweeper.start()
        yield db
        stop.set()
        sweeper.join()


def worker_child(db: Database, other_than: int = 0) -> int:
    """The pid of the worker child that lately began to show itself, once there is one."""

    def look() -> int:
        with reading(db) as session:
            pid = session.scalar(select(Worker.pid).order_by(Worker.started_at.desc()).limit(1))
        return pid if pid and pid != other_than and alive(pid) else 0

    return until(look)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    """Whether a process runs, zombies excepted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill(pid: int) -> None:
    """Kill a process the hard way, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), 10.0)


def holds_torch(pid: int) -> bool:
    """Whether torch's library is loaded in a process."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
