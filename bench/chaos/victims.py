"""Who can be killed: the service's processes by what they do, found anew each time, because they come and go."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
from sqlalchemy import select

from app.db import reading
from app.errors import DatabaseUnavailable
from app.models import Attribution, Status, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.db import Database

PARTS = {
    "up": "app.cli up",
    "api": "app.main:create_app",
    "parent": "worker.celery:celery",
    "builder": "worker.builder:celery",
    "sweeper": "app.cli sweep",
    "sender": "app.cli deliver",
    "receiver": "bench.chaos.receiver",
    "broker": "valkey",
}
"""What a part's command line holds."""
CHILD = "spawn_main"


class Started:
    """The processes that this one starts from now on, and theirs; what runs already is nobody's victim."""

    def __init__(self) -> None:
        self._bystanders = frozenset(psutil.Process().children())

    def find(self, part: str) -> list[psutil.Process]:
        """Return the living processes of a part; "child" is what a worker's parent has started."""
        if part == "child":
            return [each for parent in self.find("parent") for each in children_of(parent)]
        return [each for each in self._all() if PARTS[part] in _command(each) and CHILD not in _command(each)]

    def _all(self) -> Iterator[psutil.Process]:
        for child in psutil.Process().children():
            if child not in self._bystanders:
                yield child
                yield from _below(child)


def children_of(parent: psutil.Process) -> list[psutil.Process]:
    """Return the children of a worker's parent that compute: Celery starts others beside them."""
    return [each for each in _below(parent) if CHILD in _command(each)]


@dataclass(frozen=True)
class Held:
    """The job that a worker holds, by its attempt's number."""

    id: str
    attempt: int


def held_by(db: Database, pid: int) -> Held | None:
    """Return what the worker child with this pid works at, None where it rests or the database does not say."""
    mine = select(Attribution.id, Attribution.attempts).join(Worker, Worker.id == Attribution.worker_id)
    with suppress(DatabaseUnavailable), reading(db) as session:
        row = session.execute(mine.where(Worker.pid == pid, Attribution.status == Status.RUNNING)).first()
        return Held(*row) if row else None
    return None


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
