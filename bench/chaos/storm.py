"""One set-up in a storm: jobs flow, seeded faults strike, everything heals, the jobs end, the verdict is read."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.db import engines
from app.errors import DatabaseUnavailable
from bench.chaos import events, evidence, faults, verdict
from bench.chaos.journal import Journal
from bench.chaos.recovery import Recoveries
from bench.chaos.setups import SETUPS, Wanted
from bench.chaos.traffic import Caller, Habits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from app.db import Database

DRAIN_SECONDS = 300.0
PATIENCE_SECONDS = 20.0
EXPECTED = (RedisError, OSError, psutil.Error, psycopg.Error, sqlite3.Error, DatabaseUnavailable, SQLAlchemyError)
"""How a fault may miss: what it needs is away because of another one."""


@dataclass(frozen=True)
class Plan:
    """How much of a storm: at least so many jobs and kills; `often`: how often each fault comes in a round.

    The next fault waits until some more jobs have ended, `pace` on average, so that a slow machine is not buried under
    faults; and for PATIENCE_SECONDS at most, or a service that is down would be left in peace. After so many `minutes`
    it is over, whatever was reached.
    """

    jobs: int
    kills: int
    seed: int
    pace: float
    often: Mapping[str, int]
    minutes: float = 60.0

    def faults(self) -> Iterator[tuple[str, int]]:
        """Yield faults for ever, each with the number of jobs to wait for: rounds of all of them, shuffled."""
        draw = random.Random(self.seed)  # noqa: S311  repeatable, not secret
        bag = [name for name, often in self.often.items() for _ in range(often)]
        while True:
            for name in draw.sample(bag, len(bag)):
                yield name, round(draw.expovariate(1 / self.pace))


@dataclass
class Storm:
    """The faults of one run: which struck, and which are still open."""

    site: faults.Site
    wounds: Journal
    recoveries: Recoveries

    def __post_init__(self) -> None:
        self._open: dict[str, tuple[float, Callable[[], object]]] = {}

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(line.get("killed", 0) for line in self.wounds.lines)

    def strike(self, name: str) -> None:
        """Do one fault; one that is still open, or that finds nothing to hit, is noted as missed."""
        if name in self._open:
            return self.wounds.note(fault=name, missed="still open")
        moment = datetime.now(UTC)
        try:
            wound = faults.FAULTS[name](self.site)
        except EXPECTED as error:
            return self.wounds.note(fault=name, missed=repr(error)[:200])
        if wound is None:
            return self.wounds.note(fault=name, missed="nobody there")
        if wound.heal is not None:
            self._open[name] = (time.monotonic() + wound.seconds, wound.heal)
        if "job" in wound.facts and wound.facts.get("killed"):
            self.recoveries.lost(wound.facts["job"], wound.facts["attempt"], moment)
        return self.wounds.note(fault=name, **wound.facts)

    def rest(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Let so much time pass, or until it is enough, healing what is due."""
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0 and not enough():
            self.heal(time.monotonic())
            self.recoveries.look()
            time.sleep(min(left, 0.2))

    def heal(self, due: float = float("inf")) -> None:
        """Heal every wound whose time has come by `due`."""
        for name, (moment, heal) in list(self._open.items()):
            if moment <= due:
                del self._open[name]
                heal()


@dataclass(frozen=True)
class Where:
    """The folder of a run, the registered model, settings and environment that differ, and who hears of progress."""

    folder: Path
    model: Path
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    say: Callable[[str], None]


def run(name: str, plan: Plan, where: Where) -> dict[str, Any]:
    """Run one set-up through its storm and return what there is to say about it."""
    began = time.monotonic()
    folder = where.folder / name
    journals = {each: Journal(folder / f"{each}.jsonl") for each in ("accepted", "ends", "wounds")}
    wanted = Wanted(folder, where.model, where.settings, environment=where.environment)
    with ExitStack() as stack:
        service = stack.enter_context(SETUPS[name](wanted))
        db = stack.enter_context(closing(engines(service.settings)))
        events.listen(service)
        caller = Caller(service.url, journals["accepted"], journals["ends"], Habits(seed=plan.seed))
        site = faults.Site(service, db, random.Random(plan.seed))  # noqa: S311  repeatable, not secret
        storm = Storm(site, journals["wounds"], Recoveries(db))
        with caller:
            under_fire = _rage(storm, caller, plan, where.say)
            caller.quiet()
            stuck_after = _drain(storm, db, where.say)
        told = verdict.Told(
            {line["id"]: line["name"] for line in caller.accepted.lines},
            {line["id"]: line["status"] for line in caller.ends.lines},
        )
        return {
            **verdict.judge(db, told, service.settings),
            "webhooks": events.judge(db, service.received),
            "jobs_before_the_last_fault": under_fire,
            "kills": storm.kills,
            "faults": evidence.struck(storm.wounds.lines),
            "missed": evidence.missed(storm.wounds.lines),
            "caller": {"requests": caller.sent, "jobs_sent_again": caller.retried, "refused": caller.refused},
            "refused_tokens": evidence.refused_tokens(service.logs),
            "recovery": storm.recoveries.summary(service.settings.lease_seconds),
            "drained_s": round(stuck_after, 1),
            "load_average": round(psutil.getloadavg()[2], 1),
            "seconds": round(time.monotonic() - began),
        }


def _rage(storm: Storm, caller: Caller, plan: Plan, say: Callable[[str], None]) -> int:
    """Strike until there were enough kills; returns how many jobs had been accepted by then. The rest come in calm."""
    limit = time.monotonic() + 60 * plan.minutes
    for number, (name, jobs) in enumerate(plan.faults()):
        if storm.kills >= plan.kills or time.monotonic() > limit:
            break
        storm.rest(PATIENCE_SECONDS, partial(caller.saw, caller.ended + jobs))
        storm.strike(name)
        if number % 10 == 0:
            say(f"{storm.site.service.name}: {caller.jobs} jobs, {caller.ended} ended, {storm.kills} kills")
    struck_at = caller.jobs
    storm.rest(max(limit - time.monotonic(), 0.0), lambda: caller.jobs >= plan.jobs)
    storm.heal()
    return struck_at


def _drain(storm: Storm, db: Database, say: Callable[[str], None]) -> float:
    """Wait for every end and for every delivery, DRAIN_SECONDS at most; returns how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < DRAIN_SECONDS:
        try:
            if not verdict.waiting(db) and not events.undelivered(db):
                break
        except DatabaseUnavailable as error:
            say(f"{storm.site.service.name}: {error!r}")
        storm.rest(0.5)
    return time.monotonic() - began
