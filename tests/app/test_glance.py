"""How an attribution stands is asked in one round trip, and shows no more than a session would."""

from __future__ import annotations

import math
import os
import tempfile
from contextlib import contextmanager

import pytest
from sqlalchemy import literal_column, select, text, update
from sqlalchemy.exc import ProgrammingError

from app import connecting
from app.acting import NOBODY, SYSTEM, TENANT_ROLE, Acting
from app.attributions import service, standing
from app.attributions.schemas import Attribution as Shown
from app.db import reading, transaction
from app.errors import DatabaseUnavailable, NotFound
from app.glance import glance
from app.models import DEFAULT_TENANT, Attribution
from tests.app.registered import queue_one, register

POSTGRES = pytest.mark.parametrize("database_settings", ["postgres"], indirect=True)
OURS, THEIRS = DEFAULT_TENANT, "theirs"
WHO = select(
    *map(literal_column, ("current_user", "current_setting('rootnote.tenant', true)")),
    literal_column("current_setting('transaction_read_only')"),
)


def of(database, tenant_id):
    return database.on_behalf_of(Acting(tenant_id=tenant_id))


@pytest.fixture
def track(database, settings):
    register(database)
    return queue_one(database, settings)


@contextmanager
def round_trips(database):
    """How often, inside the block, the read engine sent something and waited for the answer."""
    with database.read.connect() as connection:
        wire = connection.connection.driver_connection.pgconn
    with tempfile.TemporaryFile("w+b") as file:
        wire.trace(file.fileno())
        counted = []
        yield counted
        wire.untrace()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        directions = [line.split(b"\t")[1] for line in file.read().splitlines() if line.count(b"\t") > 2]
    before = [b"B", *directions]
    counted.append(sum(was == b"B" and comes == b"F" for was, comes in zip(before, directions, strict=False)))


@POSTGRES
def test_it_takes_one_round_trip(database, track, monkeypatch):
    monkeypatch.setattr(connecting, "TRUSTED_SECONDS", math.inf)  # one that rested is asked first whether it is open
    mine = of(database, OURS)
    standing.look(mine, tenant_id=OURS, attribution_id=track)
    with round_trips(database) as of_a_glance:
        standing.look(mine, tenant_id=OURS, attribution_id=track)
    with round_trips(database) as of_a_session, reading(mine) as session:
        service.get(session, tenant_id=OURS, attribution_id=track)
    assert (of_a_glance, of_a_session) == ([1], [4])


def test_it_shows_what_a_session_shows(database, track):
    mine = of(database, OURS)
    with reading(mine) as session:
        row = service.get(session, tenant_id=OURS, attribution_id=track)
        assert Shown.of(standing.look(mine, tenant_id=OURS, attribution_id=track)) == Shown.of(row)


def test_what_was_committed_is_seen_at_once(database, track):
    mine = of(database, OURS)
    for progress in (0.25, 0.5, 0.75):
        with transaction(database) as session:
            session.execute(update(Attribution).values(progress=progress))
        assert standing.look(mine, tenant_id=OURS, attribution_id=track).progress == progress


def test_another_s_attribution_is_not_there(database, track):
    with pytest.raises(NotFound):
        standing.look(of(database, THEIRS), tenant_id=THEIRS, attribution_id=track)


@POSTGRES
def test_a_careless_question_finds_nothing_of_others(database, track):
    careless = select(Attribution.__table__.c.id)
    assert glance(of(database, OURS), careless, {}).id == track
    assert glance(of(database, THEIRS), careless, {}) is None
    assert glance(database.on_behalf_of(NOBODY), careless, {}) is None
    assert glance(database.on_behalf_of(SYSTEM), careless, {}).id == track


@POSTGRES
def test_it_can_only_read_and_its_rights_end_with_it(database, track):
    for _ in range(10):  # beyond the number from which the driver prepares a statement
        assert tuple(glance(of(database, OURS), WHO, {})) == (TENANT_ROLE, OURS, "on")
    with database.read.connect() as connection:
        user, tenant, _ = connection.execute(WHO).one()
        assert user != TENANT_ROLE
        assert not tenant
        assert connection.scalar(text("SHOW transaction_isolation")) == "repeatable read"


@POSTGRES
def test_one_that_fails_leaves_a_connection_that_serves(database, track):
    wrong = select(literal_column("no_such_column")).select_from(Attribution.__table__)
    with pytest.raises(ProgrammingError):
        glance(of(database, OURS), wrong, {})
    assert standing.look(of(database, OURS), tenant_id=OURS, attribution_id=track).id == track


@POSTGRES
def test_a_connection_that_was_cut_is_said_to_be_and_replaced(database, track):
    mine = of(database, OURS)
    standing.look(mine, tenant_id=OURS, attribution_id=track)
    with transaction(database) as session:
        session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))
    with pytest.raises(DatabaseUnavailable):
        standing.look(mine, tenant_id=OURS, attribution_id=track)
    assert standing.look(mine, tenant_id=OURS, attribution_id=track).id == track
