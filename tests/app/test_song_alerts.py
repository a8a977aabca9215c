"""Alerts: one event for each crossing, of what counts alone, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.alerts import crossing, service
from app.alerts.service import Wanted
from app.attributions import lease
from app.db import reading, transaction
from app.errors import NotFound
from app.models import DEFAULT_TENANT, Event, Holder, Right, Song
from app.webhooks.outbox import EventType
from tests.app.registered import KEYS, outcome, queue_one, register
from tests.app.world import rows

ONE = f"{DEFAULT_TENANT}-one"
DAY = 86_400


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


def alert(db, **wanted):
    with transaction(db) as session:
        return service.create(session, tenant_id=DEFAULT_TENANT, wanted=Wanted(**wanted)).id


def finish(db, settings, **asked):
    """A track in which each of three songs has a share of 0.2."""
    ident = queue_one(db, settings, **asked)
    with transaction(db) as session:
        claim = lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
    with transaction(db) as session:
        assert lease.complete(session, claim=claim, outcome=outcome())
    return ident


def told(db):
    with reading(db) as session:
        chosen = select(Event).where(Event.type == EventType.SONG_ALERT).order_by(Event.created_at, Event.id)
        return [event.data for event in session.scalars(chosen)]


def look(db, settings):
    with transaction(db) as session:
        return crossing.sweep(session, settings)


def test_each_counted_track_above_the_threshold_is_told_of_once(db, settings):
    register(db)
    low, high = alert(db, song_id=ONE, threshold=0.19), alert(db, song_id=ONE, threshold=0.21)
    first = finish(db, settings, external_id="a")
    finish(db, settings, external_id="a")  # does not count
    second = finish(db, settings, external_id="b")
    assert [(each["alert_id"], each["attribution_id"], each["song_id"]) for each in told(db)] == [
        (low, first, ONE),
        (low, second, ONE),
    ]
    assert told(db)[0]["value"] == pytest.approx(0.2)
    with reading(db) as session:
        assert service.get(session, tenant_id=DEFAULT_TENANT, alert_id=low).crossed_at is not None
        assert service.get(session, tenant_id=DEFAULT_TENANT, alert_id=high).crossed_at is None


def test_a_sum_is_told_of_when_it_passes_and_again_only_after_it_was_below(db, settings, clock):
    register(db)
    alert(db, song_id=ONE, threshold=0.5, window_days=7)

    def after(tracks):
        for _ in range(tracks):
            finish(db, settings, external_id=str(clock.moment) + str(len(told(db))) + str(_))
        clock.forward(settings.alert_seconds)
        return look(db, settings)

    assert [after(2), after(1), after(1), after(0)] == [0, 1, 0, 0]
    assert look(db, settings) == 0  # it is not time yet
    clock.forward(8 * DAY)
    assert look(db, settings) == 0
    assert after(3) == 1
    assert [each["window_days"] for each in told(db)] == [7, 7]
    assert told(db)[0]["value"] == pytest.approx(0.6)


def test_a_holders_and_an_artists_songs_count_together(db, settings, clock):
    register(db)
    with transaction(db) as session:
        holder = Holder(id="h", tenant_id=DEFAULT_TENANT, name="P", name_plain="p", words=["p"])
        session.add(holder)
        session.flush()
        for key in KEYS[:2]:
            song_id = f"{DEFAULT_TENANT}-{key}"
            right = {"party": "P", "role": "label", "share": 0.5, "holder_id": "h"}
            session.add_all(Right(tenant_id=DEFAULT_TENANT, song_id=song_id, **right) for _ in range(2))
        session.get_one(Song, f"{DEFAULT_TENANT}-two").artist = "Bé"
    of_holder = alert(db, holder_id="h", threshold=0.39, window_days=1)
    of_artist = alert(db, artist="BE", threshold=0.19)
    finish(db, settings)
    assert [(each["alert_id"], each["song_id"]) for each in told(db)] == [(of_artist, f"{DEFAULT_TENANT}-two")]
    assert look(db, settings) == 1
    assert told(db)[1]["alert_id"] == of_holder
    assert told(db)[1]["value"] == pytest.approx(0.4)


def test_an_alert_of_one_model_hears_nothing_of_another(db, settings, clock):
    register(db)
    register(db, name="second")
    alert(db, song_id=ONE, threshold=0.1, model="second")
    alert(db, song_id=ONE, threshold=0.1, model="second", window_days=1)
    finish(db, settings)
    assert look(db, settings) == 0
    finish(db, settings, model="second")
    clock.forward(settings.alert_seconds)
    assert look(db, settings) == 1
    assert len(told(db)) == 2


def test_alerts_are_of_ones_own_songs(db, settings):
    register(db)
    register(db, tenant_id="other")
    for wanted in ({"song_id": "other-one"}, {"holder_id": "nobody"}, {"song_id": "nothing"}):
        with pytest.raises(NotFound):
            alert(db, threshold=0.1, **wanted)
    alert(db, artist="A", threshold=0.1)
    ident = queue_one(db, settings, tenant_id="other")
    with transaction(db) as session:
        claim = lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
    with transaction(db) as session:
        assert lease.complete(session, claim=claim, outcome=outcome())
    assert told(db) == []


URL = "/v1/alerts"


def test_alerts_over_http(client, stranger, model, database):
    with reading(database) as session:
        song = session.scalars(select(Song.id)).first()
    key = {"Idempotency-Key": "k"}
    body = {"song_id": song, "threshold": 2.5, "window_days": 30}
    made, again = (client.post(URL, json=body, headers=key) for _ in range(2))
    assert (made.status_code, made.json()) == (201, again.json())
    ident = made.json()["id"]
    assert client.get(f"{URL}/{ident}").json() == made.json()
    assert [each["id"] for each in client.get(URL).json()["items"]] == [ident]
    for call in (stranger.get(f"{URL}/{ident}"), stranger.delete(f"{URL}/{ident}"), stranger.post(URL, json=body)):
        assert call.status_code == 404
    assert client.delete(f"{URL}/{ident}").status_code == 204
    assert client.get(f"{URL}/{ident}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"threshold": 0.1}, {"song_id": "a", "artist": "b", "threshold": 0.1}, {"artist": "a", "threshold": 0}),
        *({"artist": "a", "threshold": 1.1}, {"artist": "a", "threshold": "nan"}, {"artist": "", "threshold": 0.1}),
        *({"artist": "a", "threshold": 0.1, "window_days": 0}, {"artist": "a\x00", "threshold": 0.1}),
    ],
)
def test_what_cannot_be_an_alert_is_refused(body, client, database):
    answer = client.post(URL, json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:rootnote:problem:invalid-request")
    assert rows(database, Event) == 0
