"""Disputes over HTTP: who objects to which row, and what a review makes of it."""

from __future__ import annotations

import pytest

from app.db import transaction
from app.models import DEFAULT_TENANT, Dispute, Song
from tests.app.test_attributions_api import posted, slug
from tests.app.world import complete, rows

REVIEW = {"outcome": "upheld", "by": "Bo", "note": "the loop is in a library"}


@pytest.fixture
def found(client, database, database_settings, model):
    """An attribution that has ended, and the ids of its songs, best first."""
    ident = posted(client)
    complete(database, database_settings, ident)
    items = client.get(f"/v1/attributions/{ident}/influences").json()["items"]
    return ident, [item["song"]["id"] for item in items]


def disputed(client, ident, song, **changes):
    body = {"song_id": song, "by": "Ada", "reason": "not our song"} | changes
    return client.post(f"/v1/attributions/{ident}/disputes", json=body)


def test_a_row_is_disputed_and_reviewed(client, found):
    ident, songs = found
    answer = disputed(client, ident, songs[0])
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert client.get(answer.headers["location"]).json() == made
    assert (made["song"]["id"], made["raised_by"], made["outcome"]) == (songs[0], "Ada", None)
    resolved = client.post(f"{answer.headers['location']}/resolve", json=REVIEW).json()
    assert (resolved["outcome"], resolved["resolved_by"], resolved["note"]) == tuple(REVIEW.values())
    assert resolved["resolved_at"] >= resolved["raised_at"]
    assert client.get(f"/v1/attributions/{ident}/disputes").json()["items"] == [resolved]


def test_the_result_stays_as_it_is(client, found):
    ident, songs = found
    before = client.get(f"/v1/attributions/{ident}/influences").json()
    where = disputed(client, ident, songs[0]).headers["location"]
    client.post(f"{where}/resolve", json=REVIEW)
    assert client.get(f"/v1/attributions/{ident}/influences").json() == before


def test_a_row_has_one_open_dispute_at_a_time(client, found, database):
    ident, songs = found
    where = disputed(client, ident, songs[0]).headers["location"]
    again = disputed(client, ident, songs[0])
    assert (again.status_code, slug(again)) == (409, "already-disputed")
    assert disputed(client, ident, songs[1]).status_code == 201
    client.post(f"{where}/resolve", json=REVIEW)
    assert disputed(client, ident, songs[0]).status_code == 201
    assert rows(database, Dispute) == 3


def test_a_decision_is_not_changed_and_repeating_it_changes_nothing(client, found):
    ident, songs = found
    where = disputed(client, ident, songs[0]).headers["location"]
    first = client.post(f"{where}/resolve", json=REVIEW)
    assert client.post(f"{where}/resolve", json=REVIEW).json() == first.json()
    other = client.post(f"{where}/resolve", json=REVIEW | {"outcome": "rejected"})
    assert (other.status_code, slug(other)) == (409, "already-resolved")
    assert client.get(where).json() == first.json()


def test_only_rows_of_the_result_are_disputed(client, found, database):
    ident, songs = found
    with transaction(database) as session:
        session.add(Song(id="other", tenant_id=DEFAULT_TENANT, key="other", title="t", artist="a"))
    assert disputed(client, ident, "other").status_code == 404
    assert disputed(client, "nothing", songs[0]).status_code == 404


@pytest.mark.parametrize("wrong", [{"by": " "}, {"reason": ""}, {"reason": "a\x00b"}, {"song_id": "\x00"}])
def test_a_dispute_says_who_and_why(client, found, wrong):
    ident, songs = found
    answer = disputed(client, ident, songs[0], **wrong)
    assert (answer.status_code, slug(answer)) == (422, "invalid-request")


@pytest.mark.parametrize("wrong", [{"outcome": "maybe"}, {"outcome": None}, {"note": ""}, {"by": ""}])
def test_a_review_says_what_who_and_why(client, found, wrong):
    ident, songs = found
    where = disputed(client, ident, songs[0]).headers["location"]
    assert client.post(f"{where}/resolve", json=REVIEW | wrong).status_code == 422
    assert client.get(where).json()["outcome"] is None


def test_a_stranger_sees_and_does_nothing(client, stranger, found):
    ident, songs = found
    where = disputed(client, ident, songs[0]).headers["location"]
    assert stranger.get(where).status_code == 404
    assert stranger.get(f"/v1/attributions/{ident}/disputes").status_code == 404
    assert stranger.post(f"{where}/resolve", json=REVIEW).status_code == 404
    assert disputed(stranger, ident, songs[1]).status_code == 404
    assert client.get(where).json()["outcome"] is None


def test_disputes_are_read_by_cursor(client, found):
    ident, songs = found
    for song in songs:
        disputed(client, ident, song)
    first = client.get(f"/v1/attributions/{ident}/disputes", params={"limit": 3}).json()
    rest = client.get(f"/v1/attributions/{ident}/disputes", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["song"]["id"] for item in first["items"] + rest["items"]] == songs
    assert rest["next_cursor"] is None
