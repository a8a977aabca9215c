"""Attributions under any order of events, on both databases."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import HealthCheck, Phase
from hypothesis import settings as effort
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, func, select

from app.attributions import lease, service, sweeping
from app.attributions.lease import Beat
from app.attributions.outcome import ErrorInfo
from app.attributions.states import ALLOWED, ENDED
from app.db import reading, transaction
from app.models import DEFAULT_TENANT, Attribution, Influence, Stage, Status
from tests.app.registered import KEYS, Clock, outcome, queue_one, register

ERROR = ErrorInfo("silent", "nothing to hear")
ACTIONS = ["claim", "lapse", "work"] * 2 + ["create", "cancel", "ring", "wait"]
PICK = some.integers(0, 999)


def _claim(db, settings, ident):
    with transaction(db) as session:
        return lease.take(session, attribution_id=ident, worker_id="w", settings=settings)


def _row(db, ident):
    with reading(db) as session:
        return service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)


class Life(RuleBasedStateMachine):
    """Callers, workers and the sweeper in any order: what must hold at every step."""

    def __init__(self, database, settings) -> None:
        super().__init__()
        self.clock = Clock()
        self.db = replace(database, clock=self.clock)
        self.settings = settings
        self.claims: list[lease.Claim] = []
        self.known: dict[str, Attribution] = {}

    @initialize()
    def begin(self) -> None:
        with transaction(self.db) as session:
            session.execute(delete(Influence))
            session.execute(delete(Attribution))
        self.create(0)

    # One rule draws its action, so that every run mixes all of them.
    @rule(action=some.sampled_from(ACTIONS), pick=PICK)
    def act(self, action, pick) -> None:
        getattr(self, action)(pick)

    def create(self, _: int) -> None:
        ident = queue_one(self.db, self.settings)
        self.known[ident] = _row(self.db, ident)

    def claim(self, pick: int) -> None:
        self.clock.forward(10)
        taken = _claim(self.db, self.settings, sorted(self.known)[pick % len(self.known)])
        if taken:
            assert taken.attempt <= self.settings.max_attempts
            self.claims.append(taken)

    def work(self, pick: int) -> None:
        if not self.claims:
            return
        taken, what = self.claims[pick % len(self.claims)], pick // len(self.claims) % 6
        row = _row(self.db, taken.id)
        held, asked = row.lease_token == taken.token, row.cancel_requested
        with transaction(self.db) as session:
            if what == 0:
                beat = lease.beat(session, claim=taken, settings=self.settings, stage=Stage.SCORING, progress=0.5)
                assert beat is (Beat.LOST if not held else Beat.CANCEL if asked else Beat.OK)
            elif what == 1:
                assert lease.complete(session, claim=taken, outcome=outcome()) == held
            elif what == 2:
                assert lease.release(session, claim=taken) == held
            elif what == 3:
                assert lease.stop(session, claim=taken) == (held and asked)
            else:
                error = {"error": ERROR, "retry": what == 4, "settings": self.settings}
                assert lease.fail(session, claim=taken, **error) == held

    def cancel(self, pick: int) -> None:
        ident = sorted(self.known)[pick % len(self.known)]
        with transaction(self.db) as session:
            service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)

    def lapse(self, pick: int) -> None:
        self.clock.forward(61 if pick % 4 else 0)
        with transaction(self.db) as session:
            sweeping.lapse(session, settings=self.settings)

    def ring(self, _: int) -> None:
        with transaction(self.db) as session:
            sweeping.ring_due(session, settings=self.settings)

    def wait(self, _: int) -> None:
        self.clock.forward(self.settings.queue_ttl_seconds / 2)
        with transaction(self.db) as session:
            sweeping.expire(session)

    @invariant()
    def every_step_is_legal_and_every_end_is_final(self) -> None:
        with reading(self.db) as session:
            rows = {row.id: row for row in session.scalars(select(Attribution))}
        for ident, before in list(self.known.items()):
            after = rows[ident]
            assert after.status == before.status or after.status in ALLOWED[Status(before.status)]
            if before.status in ENDED:
                assert _facts(after) == _facts(before)
            self.known[ident] = after

    @invariant()
    def rows_are_sound(self) -> None:
        for row in self.known.values():
            assert 0 <= row.attempts <= self.settings.max_attempts
            assert (row.lease_token is not None) == (row.status == "running") == (row.lease_until is not None)
            assert (row.finished_at is not None) == (row.status in ENDED)
            assert (row.next_ring_at is not None) == (row.status == "queued"), "what waits would never be rung"
            assert (row.error_type is not None) == (row.status == "failed")

    @invariant()
    def there_is_one_set_of_influences_for_each_success(self) -> None:
        with reading(self.db) as session:
            counts = dict(
                session.execute(select(Influence.attribution_id, func.count()).group_by(Influence.attribution_id)).all()
            )
        succeeded = [ident for ident, row in self.known.items() if row.status == "succeeded"]
        assert counts == dict.fromkeys(succeeded, len(KEYS))


def _facts(row: Attribution) -> str:
    values = {column.name: getattr(row, column.name) for column in Attribution.__table__.columns}
    return json.dumps(values, default=str, sort_keys=True)


def test_no_order_of_events_breaks_the_state_machine(database, settings, valkey):
    settings = settings.model_copy(update={"broker_url": valkey.url})
    register(replace(database, clock=Clock()))
    run_state_machine_as_test(
        lambda: Life(database, settings),
        settings=effort(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
