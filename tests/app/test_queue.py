"""The doorbell on a real Valkey: it rings after the commit, and its silence never hurts."""

from __future__ import annotations

import json
import time
from contextlib import closing

import pytest
from sqlalchemy import select

from app import queue
from app.db import engines, reading, transaction
from app.models import Tenant
from app.queue import Message
from tests.services import Valkey

QUEUE = "attribute.test"
MESSAGE = Message("rootnote.attribute", "the-id", QUEUE)


@pytest.fixture
def db(settings, migrated_sqlite):
    with closing(engines(settings.model_copy(update={"database_url": f"sqlite:///{migrated_sqlite}"}))) as database:
        yield database


@pytest.fixture
def own_valkey():
    with closing(Valkey()) as server:
        server.start()
        yield server


def _on(settings, server):
    return settings.model_copy(update={"broker_url": server.url})


def _waiting(server):
    with server.client() as client:
        return [json.loads(raw) for raw in client.lrange(QUEUE, 0, -1)]


def _ring(db, settings, *messages):
    with transaction(db) as session:
        for message in messages or (MESSAGE,):
            queue.ring(session, message, settings=settings)


def test_a_ring_is_one_message_with_the_tasks_name_and_one_id(db, settings, own_valkey):
    _ring(db, _on(settings, own_valkey))
    (message,) = _waiting(own_valkey)
    assert message["headers"]["task"] == "rootnote.attribute"
    assert message["headers"]["argsrepr"] == "['the-id']"
    assert message["properties"]["delivery_info"]["routing_key"] == QUEUE


def test_nothing_rings_before_the_commit_or_after_a_rollback(db, settings, own_valkey):
    with pytest.raises(KeyError), transaction(db) as session:
        queue.ring(session, MESSAGE, settings=_on(settings, own_valkey))
        assert _waiting(own_valkey) == []
        raise KeyError
    assert _waiting(own_valkey) == []


def test_rings_keep_their_order(db, settings, own_valkey):
    many = [Message("rootnote.attribute", str(number), QUEUE) for number in range(5)]
    _ring(db, _on(settings, own_valkey), *many)
    newest_first = [message["headers"]["argsrepr"] for message in _waiting(own_valkey)]
    assert newest_first == [f"['{number}']" for number in (4, 3, 2, 1, 0)]


def test_without_a_broker_the_transaction_still_stands(db, settings):
    with transaction(db) as session:
        session.merge(Tenant(id="kept", name="kept"))
        queue.ring(session, MESSAGE, settings=settings)
    with reading(db) as session:
        assert session.scalars(select(Tenant.id).where(Tenant.id == "kept")).one() == "kept"


def test_a_frozen_broker_costs_a_few_seconds_for_any_number_of_rings(db, settings, own_valkey):
    own_valkey.freeze()
    try:
        began = time.monotonic()
        _ring(db, _on(settings, own_valkey), *[MESSAGE] * 20)
        assert time.monotonic() - began < 2 * queue.TIMEOUT_SECONDS + 1
        assert not queue.reachable(_on(settings, own_valkey))
    finally:
        own_valkey.thaw()


def test_a_broker_that_comes_back_is_heard_again(db, settings, own_valkey):
    here = _on(settings, own_valkey)
    _ring(db, here)
    own_valkey.kill()
    _ring(db, here)
    assert not queue.reachable(here)
    own_valkey.start()
    assert queue.reachable(here)
    _ring(db, here)
    _ring(db, here)
    assert len(_waiting(own_valkey)) >= 2
