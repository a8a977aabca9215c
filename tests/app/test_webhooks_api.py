"""Webhook endpoints over HTTP: made, seen, changed, and only by their owner."""

from __future__ import annotations

import threading

import pytest
from standardwebhooks import Webhook

from app.main import create_app
from app.models import WebhookDelivery, WebhookSecret
from app.webhooks import sending
from tests.app.here import client_of
from tests.app.receiver import receiving
from tests.app.world import rows
from tests.processes import until

URL = "/v1/webhook-endpoints"


@pytest.fixture
def database_settings(database_settings):
    private = {"webhook_allow_private": True, "webhook_poll_seconds": 0.05, "webhook_seconds": 3.0}
    return database_settings.model_copy(update=private)


def made(client, url="http://127.0.0.1:9/hook", **more):
    answer = client.post(URL, json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def slug(answer):
    return answer.status_code, answer.json()["type"].removeprefix("urn:rootnote:problem:")


def test_a_secret_is_told_when_it_is_made_and_never_again(client, database):
    first = made(client, description="production", events=["song.alert", "song.alert"])
    assert first["secret"].startswith("whsec_")
    shown = client.get(f"{URL}/{first['id']}").json()
    assert (shown["url"], shown["events"], shown["enabled"]) == (first["url"], ["song.alert"], True)
    assert "secret" not in shown
    second = client.post(f"{URL}/{first['id']}/secret", json={"overlap_seconds": 60}).json()
    assert second["secret"] not in {first["secret"], ""}
    assert rows(database, WebhookSecret) == 2


def test_a_key_makes_one_endpoint_and_tells_its_secret_again(client, database):
    key, body = {"Idempotency-Key": "k"}, {"url": "http://127.0.0.1:9/"}
    first, second = (client.post(URL, json=body, headers=key).json() for _ in range(2))
    assert first == second
    assert rows(database, WebhookSecret) == 1


def test_endpoints_are_listed_changed_and_deleted(client, database):
    idents = [made(client)["id"] for _ in range(3)]
    page = client.get(URL, params={"limit": 2}).json()
    rest = client.get(URL, params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [each["id"] for each in page["items"] + rest["items"]] == idents
    changed = client.patch(f"{URL}/{idents[0]}", json={"enabled": False, "events": ["attribution.failed"]}).json()
    assert (changed["enabled"], changed["disabled_for"], changed["events"]) == (False, "owner", ["attribution.failed"])
    assert slug(client.post(f"{URL}/{idents[0]}/test")) == (409, "conflict")
    assert client.patch(f"{URL}/{idents[0]}", json={"enabled": True}).json()["enabled"]
    assert client.post(f"{URL}/{idents[0]}/test").status_code == 202
    assert client.delete(f"{URL}/{idents[0]}").status_code == 204
    assert slug(client.get(f"{URL}/{idents[0]}")) == (404, "not-found")
    assert rows(database, WebhookDelivery) == 0


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"url": ""}, {"url": "ftp://example.com/"}, {"url": "https://a:b@example.com/"}, {"url": "x\x00"}),
        *({"url": "http://127.0.0.1/", "events": ["nothing"]}, {"url": "http://127.0.0.1/", "more": 1}),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused(body, client):
    assert slug(client.post(URL, json=body)) == (422, "invalid-request")


def test_private_addresses_are_refused_unless_the_operator_allows_them(database_settings):
    strict = create_app(database_settings.model_copy(update={"webhook_allow_private": False}))
    with client_of(strict) as client:
        for url in (
            "https://127.0.0.1/",
            "https://localhost/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/",
        ):
            assert slug(client.post(URL, json={"url": url})) == (422, "private-address")
        assert slug(client.post(URL, json={"url": "http://example.com/"})) == (422, "invalid-request")
        assert slug(client.post(URL, json={"url": "https://no-such-host.invalid/"})) == (422, "unknown-host")


def test_anothers_endpoint_is_not_there(client, stranger, database):
    ident = made(client)["id"]
    calls = [
        stranger.get(f"{URL}/{ident}"),
        stranger.patch(f"{URL}/{ident}", json={"enabled": False}),
        stranger.delete(f"{URL}/{ident}"),
        stranger.post(f"{URL}/{ident}/secret", json={}),
        stranger.post(f"{URL}/{ident}/test"),
        stranger.get(f"{URL}/{ident}/deliveries"),
        stranger.post(f"{URL}/{ident}/replay", json={"event_id": ident}),
    ]
    assert {slug(each) for each in calls} == {(404, "not-found")}
    assert stranger.get(URL).json()["items"] == []


def test_a_test_event_arrives_and_its_delivery_is_shown_and_replayed(client, database, database_settings):
    stop = threading.Event()
    sender = threading.Thread(target=sending.run, args=(database_settings, stop))
    with receiving() as receiver:
        sender.start()
        try:
            endpoint = made(client, receiver.url)
            event = client.post(f"{URL}/{endpoint['id']}/test").json()["event_id"]
            until(lambda: len(receiver.got) == 1, 20.0)
            until(lambda: _deliveries(client, endpoint)[0]["status"] == "delivered", 20.0)
            again = client.post(f"{URL}/{endpoint['id']}/replay", json={"event_id": event})
            assert (again.status_code, again.json()["events"]) == (202, 1)
            until(lambda: len(receiver.got) == 2, 20.0)
            until(lambda: len(_deliveries(client, endpoint)[0]["attempts"]) == 2, 20.0)
        finally:
            stop.set()
            sender.join(20.0)
    assert not sender.is_alive()
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {event}
    for headers, body in receiver.got:
        assert Webhook(endpoint["secret"]).verify(body, headers)["type"] == "endpoint.test"
    (delivery,) = _deliveries(client, endpoint)
    assert (delivery["event_id"], delivery["type"]) == (event, "endpoint.test")


def _deliveries(client, endpoint):
    return client.get(f"{URL}/{endpoint['id']}/deliveries").json()["items"]


@pytest.mark.parametrize("body", [{}, {"event_id": "a", "since": "2026-01-01T00:00:00Z"}, {"since": "yesterday"}])
def test_a_replay_names_either_an_event_or_a_time(body, client):
    ident = made(client)["id"]
    assert slug(client.post(f"{URL}/{ident}/replay", json=body)) == (422, "invalid-request")


def test_a_sender_waits_for_a_database_that_is_away(database_settings):
    nowhere = database_settings.model_copy(update={"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/none"})
    stop = threading.Event()
    sender = threading.Thread(target=sending.run, args=(replace_poll(nowhere), stop))
    sender.start()
    stop.wait(0.5)
    assert sender.is_alive()
    stop.set()
    sender.join(20.0)
    assert not sender.is_alive()


def replace_poll(settings):
    return settings.model_copy(update={"webhook_poll_seconds": 0.05})
