"""What is done to a service. Each fault says what it hit, and how it heals where that is not by itself."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
from redis import Redis

from app.attributions.service import queue_name
from bench.chaos import victims

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from app.db import Database
    from bench.chaos.setups import Service

FULL_BYTES = 4096
CATCH_SECONDS = 4.0
CAUGHT = 0.8
NEVER = resource.RLIM_INFINITY


@dataclass(frozen=True)
class Wound:
    """What a fault did: `facts` for the journal; after `seconds`, `heal` is called."""

    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    heal: Callable[[], object] | None = None


@dataclass(frozen=True)
class Site:
    """Where faults strike: the service, its database, and the draw that chooses among several victims."""

    service: Service
    db: Database
    draw: random.Random

    def one(self, part: str) -> psutil.Process | None:
        """Return one living process of a part."""
        found = self.service.started.find(part)
        return self.draw.choice(found) if found else None

    def broker(self) -> Redis:
        """Return a connection to the broker; commands raise RedisError or OSError while it is away."""
        return Redis(unix_socket_path=str(self.service.broker), socket_timeout=2)

    @property
    def queue(self) -> str:
        """The list in which the broker keeps the jobs' messages."""
        return queue_name(self.service.settings.model_name)


Fault = Callable[[Site], Wound | None]


def kill(part: str, site: Site) -> Wound | None:
    """SIGKILL a process of a part."""
    victim = site.one(part)
    if victim is None:
        return None
    with suppress(psutil.NoSuchProcess):
        victim.kill()
    return Wound({"pid": victim.pid, "killed": 1})


def kill_worker(part: str, site: Site) -> Wound | None:
    """SIGKILL a worker's child or its parent, most often in the middle of a job, and note which."""
    parent = site.one("parent")
    children = victims.children_of(parent) if parent else []
    if parent is None or not children:
        return None
    child = site.draw.choice(children)
    held = _caught(site, child)
    victim = child if part == "child" else parent
    with suppress(psutil.NoSuchProcess):
        victim.kill()
    _resume(child)  # it has to notice by itself that its parent is gone
    facts = {"pid": victim.pid, "killed": 1}
    return Wound(facts | ({"job": held.id, "attempt": held.attempt} if held else {}))


def _caught(site: Site, child: psutil.Process) -> victims.Held | None:
    """Halt a worker child, if drawn so when it has a job: what it holds now it holds until it goes on or is killed."""
    limit = time.monotonic() + (CATCH_SECONDS if site.draw.random() < CAUGHT else 0.0)
    while time.monotonic() < limit and not victims.held_by(site.db, child.pid):
        time.sleep(0.05)
    with suppress(psutil.NoSuchProcess):
        child.suspend()
    return victims.held_by(site.db, child.pid)


def kill_postgres(site: Site) -> Wound | None:
    """SIGKILL the postmaster; it is started again some moments later."""
    server = site.service.postgres
    if server is None or server.process() is None:
        return None
    return Wound({"pid": server.kill(), "killed": 1}, site.draw.uniform(0.2, 3.0), server.start)


def kill_backend(site: Site) -> Wound | None:
    """SIGKILL a process that serves one connection, whereupon Postgres ends all others and recovers."""
    found = site.service.postgres.backends() if site.service.postgres else []
    if not found:
        return None
    victim = site.draw.choice(found)
    victim.kill()
    return Wound({"pid": victim.pid, "killed": 1})


def cut_postgres(site: Site) -> Wound | None:
    """Cut all connections to Postgres."""
    server = site.service.postgres
    if server is None or server.process() is None:
        return None
    return Wound({"connections": server.cut()})


def lock_sqlite(site: Site) -> Wound | None:
    """Hold the database's one write lock for some seconds, as a copy or an operator's shell may."""
    connection = sqlite3.connect(site.service.settings.database_url.removeprefix("sqlite:///"), timeout=10)
    connection.isolation_level = None
    connection.execute("BEGIN IMMEDIATE")
    return Wound({}, site.draw.uniform(1.0, 4.0), connection.close)


def stop(part: str, site: Site) -> Wound | None:
    """Ask a process to leave, as a new version being rolled out does."""
    victim = site.one(part)
    if victim is None:
        return None
    victim.terminate()
    return Wound({"pid": victim.pid})


def freeze_broker(site: Site) -> Wound | None:
    """Halt the broker for some seconds: it neither answers nor refuses."""
    return _halted(site, "broker", site.draw.uniform(1.0, 5.0))


def outlast_lease(site: Site) -> Wound | None:
    """Halt a worker child for longer than its lease: when it goes on, what it held is another's."""
    return _halted(site, "child", 1.5 * site.service.settings.lease_seconds)


def _halted(site: Site, part: str, seconds: float) -> Wound | None:
    victim = site.one(part)
    if victim is None:
        return None
    victim.suspend()
    held = victims.held_by(site.db, victim.pid) if part == "child" else None
    return Wound({"pid": victim.pid} | ({"job": held.id} if held else {}), seconds, partial(_resume, victim))


def _resume(victim: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        victim.resume()


def cut_broker(site: Site) -> Wound:
    """Cut every other connection to the broker."""
    with site.broker() as broker:
        return Wound({"connections": broker.execute_command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")})


def drop_messages(site: Site) -> Wound:
    """Lose every waiting message."""
    with site.broker() as broker, broker.pipeline() as both:
        return Wound({"messages": both.llen(site.queue).delete(site.queue).execute()[0]})


def double_messages(site: Site) -> Wound:
    """Have every waiting message thrice."""
    with site.broker() as broker:
        messages = broker.lrange(site.queue, 0, -1)
        if messages:
            broker.lpush(site.queue, *messages, *messages)
        return Wound({"messages": len(messages)})


def lose_storage(site: Site) -> Wound:
    """Put a file where the folder of the uploads was: nothing can be written or read."""
    folder = site.service.objects
    aside = folder.with_name("objects.aside")
    folder.rename(aside)
    folder.write_bytes(b"")
    return Wound({}, site.draw.uniform(0.5, 2.5), partial(_find_storage, folder, aside))


def _find_storage(folder: Path, aside: Path) -> None:
    folder.unlink()
    aside.rename(folder)


def fill_disk(part: str, site: Site) -> Wound | None:
    """Let a process write no file beyond a few kilobytes: uploads, the database and its log fail as on a full disk."""
    victim = site.one(part)
    if victim is None:
        return None
    victim.rlimit(psutil.RLIMIT_FSIZE, (FULL_BYTES, NEVER))
    return Wound({"pid": victim.pid}, site.draw.uniform(0.5, 2.5), partial(_empty_disk, victim))


def _empty_disk(victim: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        victim.rlimit(psutil.RLIMIT_FSIZE, (NEVER, NEVER))


FAULTS: dict[str, Fault] = {
    **{f"kill {part}": partial(kill, part) for part in victims.PARTS},
    "kill child": partial(kill_worker, "child"),
    "kill parent": partial(kill_worker, "parent"),
    "kill postgres": kill_postgres,
    "kill backend": kill_backend,
    "cut postgres": cut_postgres,
    "lock sqlite": lock_sqlite,
    "stop api": partial(stop, "api"),
    "stop worker": partial(stop, "parent"),
    "freeze broker": freeze_broker,
    "outlast lease": outlast_lease,
    "cut broker": cut_broker,
    "drop messages": drop_messages,
    "double messages": double_messages,
    "lose storage": lose_storage,
    "full disk of api": partial(fill_disk, "api"),
    "full disk of worker": partial(fill_disk, "child"),
}
_BOTH = {
    "kill child": 4,
    "kill parent": 2,
    "kill api": 3,
    "kill sweeper": 3,
    "kill broker": 3,
    "kill sender": 2,
    "kill receiver": 2,
    "stop api": 1,
    "stop worker": 1,
    "freeze broker": 1,
    "outlast lease": 1,
    "cut broker": 1,
    "drop messages": 2,
    "double messages": 2,
    "lose storage": 1,
    "full disk of api": 1,
    "full disk of worker": 1,
}
OFTEN: dict[str, dict[str, int]] = {
    "embedded": _BOTH | {"kill up": 1, "kill builder": 1, "lock sqlite": 1},
    "production": _BOTH | {"kill postgres": 2, "kill backend": 1, "cut postgres": 1},
}
"""How often each fault comes in one round over all of them."""
