"""Tenants are served in turn, on both databases."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select, update

from app.attributions import lease, service
from app.db import reading, transaction
from app.models import Attribution, Tenant, new_id
from tests.app.registered import queue_one, register

MANY = 10_000


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


def claim(db, settings, told):
    """What a worker does when a message tells it of a job: the tenant that it then works for, and the job."""
    with transaction(db) as session:
        taken = lease.claim(session, attribution_id=told, worker_id="w", settings=settings)
    return (taken.tenant_id, taken.id) if taken else (None, None)


def flood(db, ident, count):
    """Queue so many more like one attribution."""
    with transaction(db) as session:
        row = session.get(Attribution, ident)
        same = {column.name: getattr(row, column.key) for column in Attribution.__table__.columns}
        idents = [new_id() for _ in range(count)]
        session.execute(insert(Attribution), [same | {"id": each} for each in idents])
    return idents


def test_a_tenant_with_ten_thousand_jobs_does_not_keep_another_waiting(db, settings):
    register(db, tenant_id="many")
    register(db, tenant_id="one")
    first = queue_one(db, settings, tenant_id="many")
    waiting = flood(db, first, MANY)
    claim(db, settings, first)
    single = queue_one(db, settings, tenant_id="one")
    assert claim(db, settings, waiting[0]) == ("one", single)
    assert claim(db, settings, waiting[1])[0] == "many"


def test_every_tenant_has_its_turn_and_every_message_a_job(db, settings):
    told = []
    for tenant, jobs in (("a", 9), ("b", 3), ("c", 1)):
        register(db, tenant_id=tenant)
        told += [queue_one(db, settings, tenant_id=tenant) for _ in range(jobs)]
    taken = [claim(db, settings, ident) for ident in told]
    order = [tenant for tenant, _ in taken]
    assert [sorted(order[start:stop]) for start, stop in ((0, 3), (3, 5), (5, 7))] == [
        list("abc"),
        list("ab"),
        list("ab"),
    ]
    assert Counter(order) == {"a": 9, "b": 3, "c": 1}
    assert sorted(ident for _, ident in taken) == sorted(told)
    assert claim(db, settings, told[0]) == (None, None)


def test_a_tenant_s_own_jobs_go_by_age(db, settings, clock):
    register(db)
    idents = []
    for _ in range(4):
        idents.append(queue_one(db, settings))
        clock.forward(1)
    assert [claim(db, settings, ident)[1] for ident in reversed(idents)] == idents


def test_other_models_and_what_is_not_due_have_no_turn(db, settings, clock):
    register(db)
    register(db, name="second")
    register(db, tenant_id="late")
    mine, other = queue_one(db, settings), queue_one(db, settings, model="second")
    late = queue_one(db, settings, tenant_id="late")
    with transaction(db) as session:
        session.execute(
            update(Attribution).where(Attribution.id == late).values(not_before=clock.moment.replace(year=2030))
        )
    assert claim(db, settings, "nothing") == (None, None)
    assert claim(db, settings, late)[1] == mine
    assert claim(db, settings, late) == (None, None)
    assert claim(db, settings, other)[1] == other


def test_many_workers_take_each_job_once(db, settings):
    for tenant in "abc":
        register(db, tenant_id=tenant)
    told = [queue_one(db, settings, tenant_id="abc"[number % 3]) for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda ident: claim(db, settings, ident)[1], told))
    assert Counter(taken) == dict.fromkeys(told, 1)
    with reading(db) as session:
        assert min(session.scalars(select(Tenant.turn).where(Tenant.id.in_(list("abc"))))) > 0
        assert service.get(session, tenant_id="a", attribution_id=told[0]).status == "running"
