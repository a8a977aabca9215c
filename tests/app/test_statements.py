"""How many statements each reading route sends: as many for a long list as for a short one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from app.db import transaction
from app.models import DEFAULT_TENANT, Attribution, Holder, Right, Song
from tests.app.world import add_found, narrowings, statements

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
POLL = "/v1/attributions/{track}"
"""Says it together with what it asks: tests/app/test_glance.py."""
READS = {
    "/v1/songs": 2,  # songs, then the rights of all of them
    "/v1/songs?q=title": 2,
    "/v1/songs?artist=artist 0": 2,
    "/v1/songs/{song}": 2,
    "/v1/songs/{song}/influences": 1,
    "/v1/songs/{song}/influences?model=starter": 1,
    "/v1/songs/{song}/influence-history?bucket=week": 1,
    "/v1/attributions": 1,
    "/v1/attributions?status=succeeded&model=starter": 1,
    POLL: 1,
    "/v1/attributions/{track}/influences": 2,  # the attribution, then its ranking
    "/v1/batches/night": 1,
    "/v1/batches/night/items": 1,
    "/v1/holders": 1,
    "/v1/holders?q=p": 1,
    "/v1/holders/h/songs": 3,  # the holder, songs, then the rights of all of them
    "/v1/usage": 2,  # quotas, then months
    "/v1/models": 2,  # models, then what is indexed of all of them
}


@pytest.fixture
def world(database, model):
    """A song that was found in many tracks, each song with rights."""
    with transaction(database) as session:
        songs = session.scalars(select(Song.id).order_by(Song.id)).all()
        session.add(Holder(id="h", tenant_id=DEFAULT_TENANT, name="p", name_plain="p", words=["p"]))
        session.flush()
        for song in songs:
            right = {"party": "p", "role": "label", "share": 1.0}
            session.add(Right(tenant_id=DEFAULT_TENANT, song_id=song, holder_id="h", **right))
    tracks = add_found(database, model.id, songs[0], [FIRST + timedelta(hours=each) for each in range(30)])
    with transaction(database) as session:
        for track in tracks:
            batched = update(Attribution).where(Attribution.id == track)
            session.execute(batched.values(batch="night", custom_id=track))
    return {"song": songs[0], "track": tracks[0]}


def _selects(client, address, limit):
    query = f"{address}{'&' if '?' in address else '?'}limit={limit}"
    client.get(query)  # whether requests are to be counted is asked now and then, not at each
    with statements() as sent:
        answer = client.get(query)
    assert answer.status_code == 200, answer.text
    return [each for each in sent if each.startswith("SELECT")]


@pytest.mark.parametrize("address", READS)
def test_a_route_sends_so_many_statements_however_much_it_shows(address, client, world):
    for limit in (1, 25):
        selects = _selects(client, address.format_map(world), limit)
        assert len(selects) == READS[address], selects


@pytest.mark.parametrize("address", [each for each in READS if each != POLL])
def test_who_asks_is_told_to_postgres_in_one_statement_more(address, client, world, database):
    client.get(address.format_map(world))
    with narrowings() as said:
        assert client.get(address.format_map(world)).status_code == 200
    assert len(said) == (database.read.dialect.name == "postgresql")


@pytest.mark.parametrize("address", ["/v1/attributions", "/v1/songs/{song}/influences"])
def test_a_page_has_twenty_rows_unless_asked(address, client, world):
    assert len(client.get(address.format_map(world)).json()["items"]) == 20


def test_a_deep_page_begins_at_its_place_in_the_index(client, database, world):
    first = client.get(f"/v1/songs/{world['song']}/influences").json()
    with statements() as sent:
        client.get(f"/v1/songs/{world['song']}/influences", params={"cursor": first["next_cursor"]})
    (select_,) = [each for each in sent if each.startswith("SELECT")]
    assert "(influences.created_at, influences.attribution_id) <" in select_
