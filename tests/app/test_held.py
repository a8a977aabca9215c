"""What a rights-holder's key shows: the songs it holds rights in, their history, and no more; on both databases."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select
from sqlalchemy.exc import ProgrammingError

from app.access import keys
from app.access.keys import NewKey
from app.access.scopes import Scope
from app.acting import HOLDER_ROLE, Acting
from app.db import reading, transaction
from app.errors import NotFound
from app.models import DEFAULT_TENANT, Attribution, AuditEntry, Dispute, Holder, Influence, Model, Right, Song, Tenant
from tests.app.here import bearer, client_of, make_key
from tests.app.sounds import Sound
from tests.app.world import complete

PROMPT, NAME, FILE = "slow piano secret", "external-77", "secret-file.wav"


@pytest.fixture
def world(app, database, model, settings):
    """Five songs found in one track; Ada holds rights in the first with Bo, and none in the others."""
    with client_of(app) as client:
        form = {"prompt": PROMPT, "external_id": NAME}
        posted = client.post("/v1/attributions", files={"audio": (FILE, Sound().encode())}, data=form)
        ident = posted.json()["id"]
        complete(database, settings, ident)
        songs = [item["song"]["id"] for item in client.get(f"/v1/attributions/{ident}/influences").json()["items"]]
        rights = [{"party": each, "role": "composer", "share": 0.5} for each in ("Ada", "Bo")]
        client.patch(f"/v1/songs/{songs[0]}", json={"rights": rights})
        client.patch(f"/v1/songs/{songs[1]}", json={"rights": [rights[1] | {"share": 1}]})
    with reading(database) as session:
        holders = {holder.name: holder.id for holder in session.scalars(select(Holder))}
    secrets = {name: make_key(database, DEFAULT_TENANT, holder_id=ident) for name, ident in holders.items()}
    return {"track": ident, "songs": songs, "holders": holders, **secrets}


@pytest.fixture
def ada(app, world):
    with client_of(app, headers=bearer(world["Ada"])) as client:
        yield client


def test_a_holder_sees_its_songs_and_its_own_rights_in_them(ada, world):
    listed = ada.get("/v1/songs").json()["items"]
    assert [song["id"] for song in listed] == [world["songs"][0]]
    assert [right["party"] for right in listed[0]["rights"]] == ["Ada"]
    assert ada.get(f"/v1/songs/{world['songs'][0]}").json() == listed[0]
    assert ada.get("/v1/songs", params={"q": "title"}).json()["items"] == listed
    assert "Bo" not in json.dumps(listed)


@pytest.mark.parametrize("part", ["", "/influences", "/influence-history"])
def test_songs_of_others_are_not_there(ada, world, part):
    for song in world["songs"][1:]:
        assert ada.get(f"/v1/songs/{song}{part}").status_code == 404


def test_the_history_names_a_track_by_an_id_alone(ada, world, database):
    address = f"/v1/songs/{world['songs'][0]}/influences"
    (row,) = ada.get(address).json()["items"]
    assert row["share"] == 0.3
    assert row["attribution"]["id"] == world["track"]
    assert (row["attribution"]["external_id"], row["attribution"]["filename"]) == (None, None)
    with transaction(database) as session:
        session.get(Tenant, DEFAULT_TENANT).shows_external_ids = True
    (row,) = ada.get(address).json()["items"]
    assert (row["attribution"]["external_id"], row["attribution"]["filename"]) == (NAME, None)
    assert ada.get(f"/v1/songs/{world['songs'][0]}/influence-history").json()["points"][0]["share_sum"] == 0.3


def test_nothing_else_is_for_a_holder(ada, world, app):
    answers = [
        ada.get(f"/v1/attributions/{world['track']}"),
        ada.get(f"/v1/attributions/{world['track']}/influences"),
        ada.get(f"/v1/attributions/{world['track']}/audio"),
        ada.get("/v1/attributions"),
        ada.get("/v1/audit"),
        ada.patch(f"/v1/songs/{world['songs'][0]}", json={"title": "mine"}),
        ada.delete(f"/v1/songs/{world['songs'][0]}/audio"),
    ]
    assert {answer.status_code for answer in answers} == {403}
    assert not [answer for answer in answers if PROMPT in answer.text or NAME in answer.text or FILE in answer.text]


def disputed(client, track, song):
    return client.post(f"/v1/attributions/{track}/disputes", json={"song_id": song, "by": "Ada", "reason": "not mine"})


def test_a_holder_disputes_a_row_of_its_own_song_and_sees_what_came_of_it(ada, app, world, database):
    made = disputed(ada, world["track"], world["songs"][0])
    assert made.status_code == 201, made.text
    where = made.headers["location"]
    assert ada.get(where).json() == made.json()
    assert disputed(ada, world["track"], world["songs"][0]).status_code == 409
    review = {"outcome": "upheld", "by": "Platform", "note": "indeed"}
    assert ada.post(f"{where}/resolve", json=review).status_code == 403
    assert ada.get(f"/v1/attributions/{world['track']}/disputes").status_code == 403
    platform = make_key(database, DEFAULT_TENANT)
    with client_of(app, headers=bearer(platform)) as client:
        assert client.post(f"{where}/resolve", json=review).status_code == 200
    assert ada.get(where).json()["outcome"] == "upheld"
    with reading(database) as session:
        done = (AuditEntry.action == "createDispute", AuditEntry.outcome == "done")
        entry = session.scalars(select(AuditEntry).where(*done)).one()
    assert entry.actor == f"holder {world['holders']['Ada']}"


def test_what_others_raised_is_not_for_a_holder_nor_rows_of_their_songs(ada, app, world, database):
    for track, song in ((world["track"], world["songs"][1]), ("nothing", world["songs"][0])):
        assert disputed(ada, track, song).status_code == 404
    with transaction(database) as session:
        session.add(Song(id="unfound", tenant_id=DEFAULT_TENANT, key="unfound", title="t", artist="a"))
        session.flush()
        held = {"song_id": "unfound", "holder_id": world["holders"]["Ada"]}
        session.add(Right(tenant_id=DEFAULT_TENANT, party="Ada", role="label", share=1.0, **held))
    assert disputed(ada, world["track"], "unfound").status_code == 404
    with client_of(app, headers=bearer(world["Bo"])) as bo:
        where = disputed(bo, world["track"], world["songs"][0]).headers["location"]
        assert bo.get(where).status_code == 200
    assert ada.get(where).status_code == 404
    reader = make_key(database, DEFAULT_TENANT, Scope.HOLDER_READ, holder_id=world["holders"]["Ada"])
    with client_of(app, headers=bearer(reader)) as client:
        assert disputed(client, world["track"], world["songs"][0]).status_code == 403


def test_a_key_is_made_for_a_holder_of_the_same_tenant_alone(database, world):
    with transaction(database) as session:
        keys.create_tenant(session, "other", "Other")
    for tenant, holder in (("other", world["holders"]["Ada"]), (DEFAULT_TENANT, "no-such-holder")):
        with pytest.raises(NotFound), transaction(database) as session:
            keys.create(session, NewKey(tenant, "n", holder_id=holder))


@pytest.mark.parametrize("database_settings", ["postgres"], indirect=True)
class TestUnderneath:
    """Under row-level security a holder's careless query finds no more."""

    def seen(self, database, world, query):
        acting = Acting(HOLDER_ROLE, DEFAULT_TENANT, world["holders"]["Ada"])
        with reading(database.on_behalf_of(acting)) as session:
            return session.scalars(query).all()

    def test_rows_of_its_own_songs_alone(self, database, world):
        own = world["songs"][0]
        assert self.seen(database, world, select(Song.id)) == [own]
        assert self.seen(database, world, select(Influence.song_id)) == [own]
        assert self.seen(database, world, select(Right.party)) == ["Ada"]
        assert self.seen(database, world, select(Holder.name)) == ["Ada"]
        assert self.seen(database, world, select(Attribution.id)) == [world["track"]]
        assert self.seen(database, world, select(Model.name)) == ["starter"]

    @pytest.mark.parametrize("wrong", ["song", "actor"])
    def test_what_is_not_its_to_write(self, database, world, wrong):
        acting = Acting(HOLDER_ROLE, DEFAULT_TENANT, world["holders"]["Ada"])
        dispute = {"song_id": world["songs"][1], "raised_by": "Ada", "reason": "r"}
        rows = {
            "song": Dispute(tenant_id=DEFAULT_TENANT, attribution_id=world["track"], **dispute),
            "actor": AuditEntry(tenant_id=DEFAULT_TENANT, actor="key", action="createDispute", outcome="done"),
        }
        with (
            pytest.raises(ProgrammingError, match="row-level security"),
            transaction(database.on_behalf_of(acting)) as session,
        ):
            session.add(rows[wrong])

    @pytest.mark.parametrize("column", ["prompt", "audio_key", "audio_sha256", "details"])
    def test_columns_that_are_not_its_to_see(self, database, world, column):
        with pytest.raises(ProgrammingError, match="permission denied"):
            self.seen(database, world, select(getattr(Attribution, column)))
