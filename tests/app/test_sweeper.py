"""The sweeper rings for what waits, ends what was abandoned, and outlives a database that goes away."""

import base64
import json
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from app import sweeper
from app.attributions import lease, service
from app.config import Settings
from app.db import Database, engines, transaction, utcnow
from app.models import DEFAULT_TENANT, Attribution, Model, Status, new_id
from tests.processes import until
from tests.services import Valkey


@pytest.fixture
def quick(database_settings: Settings, valkey: Valkey) -> Settings:
    changes = {"broker_url": valkey.url, "sweep_seconds": 0.05, "lease_seconds": 0.2, "heartbeat_seconds": 0.1}
    return database_settings.model_copy(update=changes)


@pytest.fixture
def waiting(database: Database, model: Model) -> str:
    """A queued attribution whose message was lost."""
    ident, moment = new_id(), utcnow()
    audio = {"audio_key": "k", "audio_sha256": "d" * 64, "audio_bytes": 1}
    times = {"next_ring_at": moment, "expires_at": moment + timedelta(hours=1)}
    with transaction(database) as session:
        owner = {"tenant_id": DEFAULT_TENANT, "model_id": model.id}
        session.add(Attribution(id=ident, method="index", top_k=10, **audio, **times, **owner))
    return ident


def status(database: Database, ident: str) -> str:
    with transaction(database) as session:
        return service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=ident).status


def test_what_waits_is_rung_for(database: Database, quick: Settings, waiting: str, valkey: Valkey) -> None:
    with valkey.client() as client:
        client.delete("attribute.starter")
        assert sweeper.once(database, quick)
        (message,) = client.lrange("attribute.starter", 0, -1)
        assert waiting in base64.b64decode(json.loads(message)["body"]).decode()
        assert sweeper.once(database, quick)
        assert client.llen("attribute.starter") == 1
        client.delete("attribute.starter")


def test_an_abandoned_job_waits_again(database: Database, quick: Settings, waiting: str) -> None:
    with transaction(database) as session:
        assert lease.take(session, attribution_id=waiting, worker_id=new_id(), settings=quick)
    stop = threading.Event()
    thread = threading.Thread(target=sweeper.run, args=(quick, stop))
    thread.start()
    until(lambda: status(database, waiting) == Status.QUEUED, 10.0)
    stop.set()
    thread.join(5.0)
    assert not thread.is_alive()


def test_what_waited_too_long_expires(database: Database, quick: Settings, waiting: str) -> None:
    with transaction(database) as session:
        session.execute(update(Attribution).values(expires_at=utcnow()))
    assert sweeper.once(database, quick)
    assert status(database, waiting) == Status.EXPIRED


def test_a_database_that_is_away_is_waited_for(settings: Settings) -> None:
    away = settings.model_copy(
        update={"database_url": "postgresql+psycopg://nobody@127.0.0.1:9/none", "sweep_seconds": 0.01}
    )
    stop = threading.Event()
    thread = threading.Thread(target=sweeper.run, args=(away, stop))
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    stop.set()
    thread.join(10.0)
    assert not thread.is_alive()


def test_a_database_without_tables_is_no_reason_to_end(tmp_path: Path) -> None:
    bare = Settings(data_dir=tmp_path)
    assert not sweeper.once(engines(bare), bare)
