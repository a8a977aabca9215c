"""A small storm over both set-ups breaks no promise, and the verdict would say so if one were broken."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, update

from app.attributions import lease
from app.attributions.outcome import ErrorInfo
from app.db import transaction
from app.models import Attribution, Influence, Status
from bench.chaos import __main__ as chaos
from bench.chaos import runs, storm, verdict
from bench.chaos.faults import FAULTS, OFTEN
from bench.chaos.journal import Journal
from bench.chaos.recovery import Recoveries
from bench.chaos.setups import QUICK
from bench.chaos.victims import Started
from tests.app.registered import outcome, queue_one, register
from tests.services import Valkey

if TYPE_CHECKING:
    from pathlib import Path

KILLS = ("kill child", "kill api", "kill sweeper", "kill broker", "kill sender", "kill receiver")
SMALL = {
    "embedded": (*KILLS, "kill parent", "kill up", "double messages", "lose storage"),
    "production": (*KILLS, "kill parent", "kill postgres", "drop messages", "cut broker"),
}


@pytest.mark.parametrize("name", SMALL)
def test_no_job_is_lost_doubled_or_stuck(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    plan = storm.Plan(jobs=20, kills=6, seed=1, pace=2.0, often=dict.fromkeys(SMALL[name], 1))
    found = storm.run(name, plan, storm.Where(tmp_path, tiny_folder, QUICK, runs.THREADS, print))
    assert found["jobs"] >= 20
    assert found["kills"] >= 6
    assert chaos.sound(chaos.result({name: found})), found
    assert found["ended"].get("succeeded", 0) > 0
    assert found["caller"]["refused"] == []


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


@pytest.fixture
def ended(db, settings):
    """Ids of a job that succeeded and of one that failed, with all that its caller knows."""
    register(db)
    first, second = queue_one(db, settings), queue_one(db, settings)
    with transaction(db) as session:
        held = lease.take(session, attribution_id=first, worker_id="w", settings=settings)
        assert lease.complete(session, claim=held, outcome=outcome())
        held = lease.take(session, attribution_id=second, worker_id="w", settings=settings)
        spent = settings.model_copy(update={"max_attempts": 1})
        assert lease.fail(session, claim=held, error=ErrorInfo("internal", ""), retry=True, settings=spent)
    return first, second


def _judged(db, settings, ended, **changed):
    accepted = dict.fromkeys(ended, "name")
    ends = {ended[0]: "succeeded", ended[1]: "failed"}
    told = verdict.Told(changed.get("accepted", accepted), changed.get("ends", ends))
    return verdict.judge(db, told, settings.model_copy(update={"max_attempts": 1}))


def _broken(found):
    names = (*chaos.BROKEN, "lost", "doubled", "stuck")
    return {name for name in names if found[name]}


def test_what_went_well_is_found_well(db, settings, ended):
    found = _judged(db, settings, ended)
    assert _broken(found) == set()
    assert found["ended"] == {"succeeded": 1, "failed": 1}


def test_what_the_caller_was_told_is_held_against_the_database(db, settings, ended):
    assert _broken(_judged(db, settings, ended, accepted={"nowhere": "name"})) == {"lost"}
    assert _broken(_judged(db, settings, ended, ends={ended[0]: "failed"})) == {"doubled"}
    queue_one(db, settings)
    assert _broken(_judged(db, settings, ended)) == {"stuck"}


def _move_end(first, second):
    return update(Attribution).where(Attribution.id == first).values(status=Status.FAILED, attempts=1, counted=False)


BREAKAGES = {
    "results_not_whole": lambda first, _: delete(Influence).where(
        Influence.attribution_id == first, Influence.rank == 1
    ),
    "results_without_success": _move_end,
    "attempts_above_the_cap": lambda first, _: update(Attribution).where(Attribution.id == first).values(attempts=2),
    "failed_before_the_cap": lambda _, second: update(Attribution).where(Attribution.id == second).values(attempts=0),
    "tracks_not_counted_once": lambda first, _: (
        update(Attribution).where(Attribution.id == first).values(counted=False)
    ),
    "histories_off": lambda first, _: update(Influence).values(counted=False),
    "jobs_metered_wrongly": lambda _, second: delete(Attribution).where(Attribution.id == second),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_promise_is_seen(db, settings, ended, name):
    with transaction(db) as session:
        session.execute(BREAKAGES[name](*ended))
    assert name in _broken(_judged(db, settings, ended))


def test_two_rows_under_one_name_are_a_doubled_job(db, settings, ended):
    with transaction(db) as session:
        session.execute(update(Attribution).values(external_id="one"))
    assert _judged(db, settings, ended)["names_with_two_rows"] == 1


def test_recovery_is_counted_from_the_kill_to_the_next_attempt_and_to_the_end(db, settings, clock):
    register(db)
    ident = queue_one(db, settings)
    with transaction(db) as session:
        held = lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
    recoveries = Recoveries(db)
    recoveries.lost(ident, held.attempt, clock.moment)
    recoveries.look()
    clock.forward(7)
    with transaction(db) as session:
        assert lease.fail(session, claim=held, error=ErrorInfo("internal", ""), retry=True, settings=settings)
    clock.forward(3)
    with transaction(db) as session:
        held = lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
    recoveries.look()
    clock.moment += timedelta(seconds=2)
    with transaction(db) as session:
        assert lease.complete(session, claim=held, outcome=outcome())
    recoveries.look()
    assert recoveries.summary(5.0)["taken_again_s"] == {"median": 10.0, "most": 10.0}
    assert recoveries.summary(5.0)["ended_s"] == {"median": 12.0, "most": 12.0}


def test_a_round_holds_every_fault_as_often_as_said_and_a_seed_repeats_it():
    plans = [storm.Plan(1, 1, seed, 3.0, OFTEN["production"]) for seed in (1, 1, 2)]
    count = sum(OFTEN["production"].values())
    first, again, other = ([next(faults) for _ in range(count)] for faults in (plan.faults() for plan in plans))
    assert first == again != other
    assert Counter(name for name, _ in first) == OFTEN["production"]
    assert all(set(often) <= FAULTS.keys() for often in OFTEN.values())


def test_a_journal_is_read_back_by_the_next_run(tmp_path):
    Journal(tmp_path / "a.jsonl").note(id="one")
    again = Journal(tmp_path / "a.jsonl")
    again.note(id="two")
    assert [line["id"] for line in Journal(tmp_path / "a.jsonl").lines] == [line["id"] for line in again.lines]


def test_what_ran_before_the_service_is_no_victim(valkey):
    started = Started()
    with closing(Valkey()) as own:
        own.start()
        assert [each.pid for each in started.find("broker")] == [own.process.pid]
    assert started.find("broker") == []
    assert valkey.client().ping()
