"""A renewed lease holds through a long computation, and says when the job must stop."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from sqlalchemy import update

from app.attributions import lease, service, sweeping
from app.config import Settings
from app.db import Database, engines, reading, transaction, utcnow
from app.models import DEFAULT_TENANT, Attribution, Model, Stage, Status, new_id
from worker.renewal import Canceled, LeaseLost, Leaving, Renewal

PATIENCE = 10.0


@pytest.fixture
def brief(database_settings: Settings) -> Settings:
    """A lease of one second, renewed four times in it."""
    return database_settings.model_copy(update={"lease_seconds": 1.0, "heartbeat_seconds": 0.25})


@pytest.fixture
def claim(database: Database, brief: Settings, model: Model) -> lease.Claim:
    ident = new_id()
    with transaction(database) as session:
        moment = utcnow()
        audio = {"audio_key": "k", "audio_sha256": "d" * 64, "audio_bytes": 1}
        owner = {"tenant_id": DEFAULT_TENANT, "model_id": model.id, "expires_at": moment + timedelta(hours=1)}
        session.add(Attribution(id=ident, method="index", top_k=10, **audio, **owner))
    with transaction(database) as session:
        held = lease.claim(session, attribution_id=ident, worker_id=new_id(), settings=brief)
    assert held is not None
    return held


def row(database: Database, claim: lease.Claim) -> Attribution:
    with reading(database) as session:
        return service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=claim.id)


def reported(renewal: Renewal) -> None:
    """Report until it raises."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        renewal.report("encoding", 0.5)
        time.sleep(0.02)


def test_the_lease_outlasts_its_length_while_nothing_is_reported(
    database: Database, brief: Settings, claim: lease.Claim
) -> None:
    matrix = torch.rand(600, 600)
    with Renewal(database, claim, brief, threading.Event()):
        until = time.monotonic() + 2 * brief.lease_seconds
        while time.monotonic() < until:
            matrix @ matrix
            with transaction(database) as session:
                assert sweeping.lapse(session, settings=brief) == 0
    late = replace(database, clock=lambda: utcnow() + timedelta(seconds=2))
    with transaction(late) as session:
        assert sweeping.lapse(session, settings=brief) == 1


def test_what_is_reported_is_seen_soon(database: Database, brief: Settings, claim: lease.Claim) -> None:
    with Renewal(database, claim, brief, threading.Event()) as renewal:
        renewal.report("scoring", 0.25)
        limit = time.monotonic() + PATIENCE
        while (seen := row(database, claim)).stage != Stage.SCORING:
            assert time.monotonic() < limit
            time.sleep(0.02)
    assert seen.progress == 0.25


def test_a_cancellation_reaches_the_job(database: Database, brief: Settings, claim: lease.Claim) -> None:
    with Renewal(database, claim, brief, threading.Event()) as renewal:
        with transaction(database) as session:
            service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=claim.id)
        with pytest.raises(Canceled):
            reported(renewal)
        assert not renewal.lost


def test_a_lease_that_is_another_s_stops_the_job(database: Database, brief: Settings, claim: lease.Claim) -> None:
    with Renewal(database, claim, brief, threading.Event()) as renewal:
        with transaction(database) as session:
            session.execute(update(Attribution).values(lease_token=new_id()))
        with pytest.raises(LeaseLost):
            reported(renewal)
        assert renewal.lost


def test_a_database_that_stays_away_loses_the_lease(brief: Settings, claim: lease.Claim) -> None:
    gone = engines(brief.model_copy(update={"database_url": "postgresql+psycopg://nobody@127.0.0.1:9/none"}))
    with Renewal(gone, claim, brief, threading.Event()) as renewal, pytest.raises(LeaseLost):
        reported(renewal)


def test_leaving_stops_the_job(database: Database, brief: Settings, claim: lease.Claim) -> None:
    leaving = threading.Event()
    with Renewal(database, claim, brief, leaving) as renewal:
        renewal.report("encoding", 0.0)
        leaving.set()
        with pytest.raises(Leaving):
            renewal.report("encoding", 0.1)
    assert row(database, claim).status == Status.RUNNING
