"""A song's influence history over HTTP: every row once, in order; the series adds up to the rows."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select

from app.catalogue.registry import register_model
from app.db import reading, transaction
from app.models import DEFAULT_TENANT, Song
from tests.app.world import add_found, model_folder, statements

MOMENTS = [
    datetime(2025, 12, 28, 23, 59, 59, 999_999, UTC),  # a Sunday
    datetime(2025, 12, 29, 0, 0, tzinfo=UTC),  # the Monday after
    datetime(2025, 12, 31, 23, 30, tzinfo=UTC),
    datetime(2026, 1, 1, 0, 0, tzinfo=UTC),
    datetime(2026, 1, 4, 12, 0, tzinfo=UTC),
    datetime(2026, 1, 4, 12, 0, tzinfo=UTC),
    datetime(2026, 3, 1, 0, 0, tzinfo=UTC),
]


@pytest.fixture
def song(database, model):
    with reading(database) as session:
        return session.scalars(select(Song.id).order_by(Song.id)).first()


@pytest.fixture
def found(database, model, song):
    return add_found(database, model.id, song, MOMENTS)


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("urn:rootnote:problem:")


def history(client, song, **params):
    answer = client.get(f"/v1/songs/{song}/influences", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def times(page):
    return [datetime.fromisoformat(row["at"]) for row in page["items"]]


def test_the_newest_comes_first_with_its_track_and_model(client, model, song, found):
    page = history(client, song)
    assert times(page) == sorted(MOMENTS, reverse=True)
    row = page["items"][0]
    assert row["attribution"]["id"] == found[-1]
    assert row["model"] == {"id": model.id, "name": "starter"}
    assert (row["share"], row["score"], row["method"], row["rank"]) == (0.25, 1.0, "index", 7)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_hold_every_row_once_even_at_one_instant(limit, client, song, found):
    whole = [row["attribution"]["id"] for row in history(client, song)["items"]]
    seen, cursor = [], None
    while cursor is not None or not seen:
        page = history(client, song, limit=limit, **({"cursor": cursor} if cursor else {}))
        assert len(page["items"]) <= limit
        seen += [row["attribution"]["id"] for row in page["items"]]
        cursor = page["next_cursor"]
    assert seen == whole
    assert sorted(seen) == sorted(found)


def test_from_is_within_and_to_is_beyond(client, song, found):
    page = history(client, song, **{"from": "2025-12-29T00:00:00Z", "to": "2026-01-01"})
    assert times(page) == [MOMENTS[2], MOMENTS[1]]
    elsewhere = history(client, song, **{"from": "2026-01-01T01:00:00+01:00", "to": "2026-01-01T00:00:01Z"})
    assert times(elsewhere) == [MOMENTS[3]]


def test_a_model_is_meant_by_id_or_by_name_in_all_its_versions(client, database, settings, model, song, found):
    with transaction(database) as session:
        newer = register_model(session, DEFAULT_TENANT, model_folder(settings.data_dir, index="e"))
        other = register_model(session, DEFAULT_TENANT, model_folder(settings.data_dir, name="other"))
    add_found(database, newer.id, song, [datetime(2026, 5, 1, tzinfo=UTC)])
    counts = {
        named: len(history(client, song, model=named)["items"]) for named in ("starter", "other", newer.id, model.id)
    }
    assert counts == {"starter": 8, "other": 0, newer.id: 1, model.id: 7}
    assert other.songs == 5
    assert problem(client.get(f"/v1/songs/{song}/influences", params={"model": "nobody"})) == (422, "unknown-model")


BUCKETS = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
}


@pytest.mark.parametrize("bucket", BUCKETS)
def test_the_series_counts_every_row_in_its_bucket(bucket, client, song, found):
    shown = client.get(f"/v1/songs/{song}/influence-history", params={"bucket": bucket}).json()
    expected = Counter(BUCKETS[bucket](moment.date()) for moment in MOMENTS)
    assert {date.fromisoformat(point["start"]): point["attributions"] for point in shown["points"]} == expected
    assert [point["start"] for point in shown["points"]] == sorted(point["start"] for point in shown["points"])
    assert all(point["share_sum"] == pytest.approx(0.25 * point["attributions"]) for point in shown["points"])
    assert min(point["best_rank"] for point in shown["points"]) == 1
    assert {point["share_max"] for point in shown["points"]} == {0.25}


def test_the_series_obeys_the_same_filters(client, model, song, found):
    span = {"from": "2026-01-01", "to": "2026-02-01", "model": model.id, "bucket": "month"}
    (point,) = client.get(f"/v1/songs/{song}/influence-history", params=span).json()["points"]
    assert (point["start"], point["attributions"]) == ("2026-01-01", 3)


def test_a_song_never_found_has_an_empty_history(client, database, model):
    with reading(database) as session:
        song = session.scalars(select(Song.id)).first()
    assert history(client, song) == {"items": [], "next_cursor": None}
    assert client.get(f"/v1/songs/{song}/influence-history").json()["points"] == []


def test_what_cannot_be_meant_is_refused(client, song, found):
    address = f"/v1/songs/{song}/influences"
    backwards = {"from": "2026-02-01", "to": "2026-01-01"}
    assert problem(client.get(address, params=backwards)) == (422, "invalid-request")
    assert problem(client.get(address, params={"from": "yesterday"})) == (422, "invalid-request")
    assert problem(client.get(address, params={"cursor": "x"})) == (400, "bad-cursor")
    others = client.get("/v1/songs", params={"limit": 1}).json()["next_cursor"]
    assert problem(client.get(address, params={"cursor": others})) == (400, "bad-cursor")
    odd = client.get(f"/v1/songs/{song}/influence-history", params={"bucket": "year"})
    assert problem(odd) == (422, "invalid-request")


def test_a_history_takes_few_statements_however_long_it_is(client, song, found):
    for tail in ("influences", "influence-history"):
        client.get(f"/v1/songs/{song}/{tail}")  # whether requests are to be counted is asked now and then
        with statements() as sent:
            client.get(f"/v1/songs/{song}/{tail}")
        selects = [statement for statement in sent if statement.startswith("SELECT")]
        assert len(selects) == 1, selects
