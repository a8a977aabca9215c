"""Webhooks from the event to the receiver: each event at least once, under one id, signed; on both databases."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select
from standardwebhooks import Webhook, WebhookVerificationError

from app.attributions import lease, service, sweeping
from app.attributions.outcome import ErrorInfo
from app.db import reading, transaction
from app.models import DEFAULT_TENANT, Event, WebhookDelivery, WebhookEndpoint, WebhookSecret
from app.webhooks import outbox, sending
from app.webhooks import service as webhooks
from app.webhooks.outbox import EventType
from app.webhooks.post import Answer, Post
from app.webhooks.schemas import AttributionEvent
from app.webhooks.service import Wish
from tests.app.receiver import answer, receiving
from tests.app.registered import outcome, queue_one, register

OK, REFUSED = Answer(204, None, "", 0.1), Answer(500, None, "sorry", 0.1)
PRIVATE = {"webhook_allow_private": True, "webhook_seconds": 3.0, "webhook_poll_seconds": 0.05}


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url, **PRIVATE})


def endpoint(db, url="https://hooks.example/", *events, tenant_id=DEFAULT_TENANT):
    with transaction(db) as session:
        made, secret = webhooks.create(session, tenant_id=tenant_id, wish=Wish(url, events=events))
    return made.id, secret


def deliver(db, settings):
    with ThreadPoolExecutor(settings.webhook_senders) as pool:
        return sending.once(db, settings, Post(settings.webhook_seconds, allow_private=True), pool)


def events(db):
    with reading(db) as session:
        return session.scalars(select(Event).order_by(Event.id)).all()


def rows(db, table=WebhookDelivery):
    with reading(db) as session:
        return session.scalars(select(table).order_by(table.id)).all()


def finish(db, settings, ident, *, error=None):
    with transaction(db) as session:
        claim = lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
    with transaction(db) as session:
        if error is None:
            assert lease.complete(session, claim=claim, outcome=outcome())
        else:
            assert lease.fail(session, claim=claim, error=error, retry=False, settings=settings)


def test_every_end_of_an_attribution_is_one_event_and_nothing_else_is(db, settings, clock):
    register(db)
    good, bad, gone, running, old = (queue_one(db, settings, external_id=name) for name in "abcde")
    finish(db, settings, good)
    finish(db, settings, bad, error=ErrorInfo("silent", "nothing to hear"))
    with transaction(db) as session:
        held = lease.take(session, attribution_id=running, worker_id="w", settings=settings)
        for _ in range(2):
            service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=gone)
            service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=running)
    with transaction(db) as session:
        lease.stop(session, claim=held)
        assert not lease.complete(session, claim=held, outcome=outcome())
    clock.forward(settings.queue_ttl_seconds + 1)
    for _ in range(2):
        with transaction(db) as session:
            sweeping.sweep(session, settings=settings)
    told = {(each.type, each.data["attribution_id"], each.data["error"], each.data["counted"]) for each in events(db)}
    assert told == {
        ("attribution.succeeded", good, None, True),
        ("attribution.failed", bad, "silent", False),
        ("attribution.canceled", gone, None, False),
        ("attribution.canceled", running, None, False),
        ("attribution.expired", old, None, False),
    }
    assert len(events(db)) == 5


def test_an_attempt_that_is_repeated_is_no_event_but_its_last_end_is(db, settings, clock):
    register(db)
    ident = queue_one(db, settings)
    for _ in range(settings.max_attempts):
        assert events(db) == []
        with transaction(db) as session:
            assert lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
        clock.forward(settings.lease_seconds + 1)
        with transaction(db) as session:
            sweeping.lapse(session, settings=settings)
        clock.forward(60)
    (event,) = events(db)
    assert (event.type, event.data["error"]) == ("attribution.failed", "attempts-exhausted")


def test_an_event_goes_back_with_the_transaction_that_it_tells_of(db, settings):
    register(db)
    endpoint(db)
    ident = queue_one(db, settings)
    with pytest.raises(ZeroDivisionError), transaction(db) as session:
        service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)
        _ = 1 / 0
    assert (events(db), rows(db)) == ([], [])


def test_a_delivery_is_what_the_public_client_accepts(database, settings):
    register(database)
    with receiving() as receiver:
        _, secret = endpoint(database, receiver.url)
        ident = queue_one(database, settings, external_id="render-77")
        finish(database, settings, ident)
        assert deliver(database, settings) == 1
        assert deliver(database, settings) == 0
    ((headers, body),) = receiver.got
    told = AttributionEvent.model_validate(Webhook(secret).verify(body, headers))
    assert (told.type, told.data.attribution_id, told.data.external_id) == (
        "attribution.succeeded",
        ident,
        "render-77",
    )
    assert (headers["webhook-id"], headers["content-type"]) == (events(database)[0].id, "application/json")
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"render-77", b"render-78"), headers)
    (row,) = rows(database)
    assert (row.status, row.attempts[0]["status"], row.next_at) == ("delivered", 204, None)


def test_while_secrets_overlap_both_verify_and_later_only_the_new_one(database, settings):
    with receiving() as receiver:
        ident, old = endpoint(database, receiver.url)
        with transaction(database) as session:
            _, new = webhooks.rotate(session, tenant_id=DEFAULT_TENANT, endpoint_id=ident, overlap_s=3600)
        for _ in range(2):
            with transaction(database) as session:
                webhooks.test(session, tenant_id=DEFAULT_TENANT, endpoint_id=ident)
            deliver(database, settings)
            with transaction(database) as session:
                for secret in session.scalars(select(WebhookSecret).where(WebhookSecret.secret == old)):
                    secret.expires_at = database.clock() - timedelta(seconds=1)
    (first, body), (second, later) = receiver.got
    assert len(first["webhook-signature"].split()) == 2
    for secret in (old, new):
        assert Webhook(secret).verify(body, first)["type"] == "endpoint.test"
    Webhook(new).verify(later, second)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(later, second)


def test_endpoints_hear_what_they_asked_for_and_of_their_own_tenant(db, settings):
    register(db)
    register(db, tenant_id="other")
    all_, some, other = (
        endpoint(db)[0],
        endpoint(db, "https://b.example/", EventType.CANCELED)[0],
        endpoint(db, tenant_id="other")[0],
    )
    finish(db, settings, queue_one(db, settings))
    assert [row.endpoint_id for row in rows(db)] == [all_]
    with transaction(db) as session:
        service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=queue_one(db, settings))
    assert sorted(row.endpoint_id for row in rows(db)) == sorted([all_, all_, some])
    finish(db, settings, queue_one(db, settings, tenant_id="other"))
    assert [row.endpoint_id for row in rows(db)].count(other) == 1


def _attempt(db, settings, met):
    jobs = sending.take(db, settings)
    for job in jobs:
        with transaction(db) as session:
            sending.settle(session, job, met, settings)
    return jobs


def emit(db):
    with transaction(db) as session:
        return outbox.emit(session, tenant_id=DEFAULT_TENANT, kind=EventType.SUCCEEDED, data={})


def test_attempts_go_on_for_days_each_later_than_the_one_before(db, settings, clock):
    endpoint(db)
    event, waits = emit(db), []
    while True:
        (job,) = _attempt(db, settings, REFUSED)
        assert job.event_id == event
        (row,) = rows(db)
        if row.next_at is None:
            break
        waits.append((row.next_at - clock()).total_seconds())
        assert sending.take(db, settings) == []
        clock.forward(waits[-1])
    assert [abs(wait / told - 1) <= 0.1 for wait, told in zip(waits, settings.webhook_retry_seconds, strict=True)]
    assert sum(waits) > 3 * 86_400 * 0.9
    assert (row.status, row.tries) == ("failed", len(waits) + 1)
    assert row.attempts[-1]["answer"] == "sorry"


def test_a_receiver_may_ask_for_more_time(db, settings, clock):
    endpoint(db)
    emit(db)
    _attempt(db, settings, Answer(503, None, "", 0.1, retry_after_s=600.0))
    assert (rows(db)[0].next_at - clock()).total_seconds() == 600


def test_a_sender_that_died_loses_nothing_and_what_it_says_later_counts_for_nothing(db, settings, clock):
    endpoint(db)
    event = emit(db)
    (first,) = sending.take(db, settings)
    assert sending.take(db, settings) == []
    clock.forward(settings.webhook_seconds + sending.LEASE_MARGIN_SECONDS)
    (second,) = sending.take(db, settings)
    assert (first.event_id, second.event_id) == (event, event)
    with transaction(db) as session:
        assert not sending.settle(session, first, OK, settings)
        assert sending.settle(session, second, OK, settings)
    assert rows(db)[0].tries == 1


def test_many_senders_hold_each_delivery_once(database, settings):
    endpoint(database)
    for _ in range(40):
        emit(database)

    def work(_):
        found = []
        while jobs := sending.take(database, settings):
            found += [job.id for job in jobs]
        return found

    with ThreadPoolExecutor(4) as pool:
        taken = [ident for some_of in pool.map(work, range(4)) for ident in some_of]
    assert sorted(taken) == sorted(row.id for row in rows(database))


def test_gone_disables_at_once_and_the_other_endpoints_are_told(database, settings):
    with receiving(answer(410)) as receiver:
        gone, _ = endpoint(database, receiver.url)
        other, _ = endpoint(database, "https://other.example/", EventType.ENDPOINT_DISABLED)
        emit(database)
        deliver(database, settings)
    assert {row.id: row.disabled_for for row in rows(database, WebhookEndpoint)} == {gone: "gone", other: None}
    told = {row.endpoint_id: row.status for row in rows(database)}
    assert told == {gone: "failed", other: "pending"}
    assert events(database)[-1].data["reason"] == "gone"


def test_days_of_failure_disable_an_endpoint_but_one_success_between_does_not(db, settings, clock):
    ident, _ = endpoint(db)
    for met in (REFUSED, OK, REFUSED):
        emit(db)
        clock.forward(settings.webhook_disable_days * 86_400 / 2 + 60)
        _attempt(db, settings, met)
    assert rows(db, WebhookEndpoint)[0].disabled_for is None
    clock.forward(settings.webhook_disable_days * 86_400)
    emit(db)
    _attempt(db, settings, REFUSED)
    (row,) = rows(db, WebhookEndpoint)
    assert row.disabled_for == "failing"
    assert {each.status for each in rows(db)} <= {"delivered", "failed"}
    with transaction(db) as session:
        webhooks.change(session, tenant_id=DEFAULT_TENANT, endpoint_id=ident, wish=Wish(enabled=True))
    assert rows(db, WebhookEndpoint)[0].failing_since is None


def test_a_replay_has_the_same_id_and_also_brings_what_a_disabled_endpoint_missed(db, settings, clock):
    ident, _ = endpoint(db)
    first = emit(db)
    _attempt(db, settings, OK)
    with transaction(db) as session:
        webhooks.change(session, tenant_id=DEFAULT_TENANT, endpoint_id=ident, wish=Wish(enabled=False))
    clock.forward(60)
    second = emit(db)
    assert sending.take(db, settings) == []
    with transaction(db) as session:
        webhooks.change(session, tenant_id=DEFAULT_TENANT, endpoint_id=ident, wish=Wish(enabled=True))
        since = clock() - timedelta(hours=1)
        assert webhooks.replay_since(session, tenant_id=DEFAULT_TENANT, endpoint_id=ident, since=since) == 2
    assert sorted(job.event_id for job in sending.take(db, settings)) == sorted([first, second])
    with transaction(db) as session:
        webhooks.replay(session, tenant_id=DEFAULT_TENANT, endpoint_id=ident, event_id=second)
    assert [job.event_id for job in sending.take(db, settings)] == [second]


def test_events_are_forgotten_with_their_deliveries_when_they_are_old(db, settings, clock):
    endpoint(db)
    emit(db)
    clock.forward(settings.webhook_keep_days * 86_400 + 1)
    kept = emit(db)
    with transaction(db) as session:
        sending.forget(session, settings)
    assert [each.id for each in events(db)] == [kept]
    assert [row.event_id for row in rows(db)] == [kept]


def test_a_body_has_the_same_bytes_at_every_attempt(db, settings, clock):
    endpoint(db)
    emit(db)
    bodies = set()
    for _ in range(3):
        (job,) = _attempt(db, settings, REFUSED)
        bodies.add(job.body)
        clock.forward(86_400)
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["timestamp"].startswith("2026-01-01T00:00:00")
