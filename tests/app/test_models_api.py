"""Registering models from their folders, and reading about them over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from app.builds import service as builds
from app.builds.service import NewBuild
from app.catalogue.registry import register_model
from app.db import reading, transaction
from app.errors import InvalidModel
from app.models import DEFAULT_TENANT, Attribution, Model, Song, TrainingSong
from tests.app.registered import queue_one
from tests.app.world import digest, model_folder, rows, statements


def register(database, folder, name=None):
    with transaction(database) as session:
        return register_model(session, DEFAULT_TENANT, folder, name)


def counts(database):
    return rows(database, Model), rows(database, Song), rows(database, TrainingSong)


def test_a_model_shows_its_training_set_and_its_index(client, model):
    shown = client.get("/v1/models/starter").json()
    assert shown == client.get(f"/v1/models/{model.id}").json()
    assert client.get("/v1/models").json() == {"items": [shown], "next_cursor": None}
    assert (shown["name"], shown["digest"]) == ("starter", digest("a"))
    assert shown["training_set"] == {"songs": 5}
    assert shown["index"] == {
        "digest": digest("b"),
        "songs": 5,
        "segments": 15,
        "segment_seconds": 10.0,
        "progress": 1.0,
        "building": None,
    }
    assert shown["details"] == {"catalogue_digest": digest("c"), "sampling_rate": 16_000}


def test_progress_is_the_part_of_the_songs_that_the_index_holds(client, database, tmp_path):
    register(database, model_folder(tmp_path, songs=4, indexed=1))
    shown = client.get("/v1/models/starter").json()
    assert (shown["training_set"]["songs"], shown["index"]["songs"], shown["index"]["progress"]) == (4, 1, 0.25)


def test_a_model_that_is_being_built_shows_how_far_it_is(client, database, settings, tmp_path):
    folder = model_folder(tmp_path, name="coming", index="7")
    wanted = NewBuild("coming", str(folder), "k", digest("d"), grows=False, how={})
    with transaction(database) as session:
        ident = builds.submit(session, tenant_id=DEFAULT_TENANT, wanted=wanted, settings=settings)
    shown = client.get("/v1/models/coming").json()
    assert shown == client.get(f"/v1/models/{ident}").json()
    assert (shown["id"], shown["digest"], shown["index"]["digest"], shown["index"]["progress"]) == (
        ident,
        None,
        None,
        0,
    )
    building = {"id": ident, "status": "queued", "progress": 0.0, "pieces": 1, "pieces_done": 0}
    assert shown["index"]["building"] == building | {"eta": None, "error": None}
    register(database, folder)
    grown = client.get("/v1/models/coming").json()
    assert (grown["index"]["digest"], grown["index"]["building"]["id"]) == (digest("7"), ident)


def test_a_waiting_attribution_goes_to_the_next_index_of_the_same_weights(database, model, settings, tmp_path):
    waiting = queue_one(database, settings)
    newer = register(database, model_folder(tmp_path, index="e"))
    trained = register(database, model_folder(tmp_path / "again", index="f", model_digest=digest("1")))
    with reading(database) as session:
        row = session.scalars(select(Attribution).where(Attribution.id == waiting)).one()
    assert row.model_id == newer.id != trained.id


def test_a_name_stands_for_its_newest_registration(client, database, model, tmp_path):
    newer = register(database, model_folder(tmp_path, index="e"))
    assert client.get("/v1/models/starter").json()["id"] == newer.id
    assert client.get(f"/v1/models/{model.id}").json()["index"]["digest"] == digest("b")
    first = client.get("/v1/models", params={"limit": 1}).json()
    second = client.get("/v1/models", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [page["items"][0]["id"] for page in (first, second)] == [newer.id, model.id]
    assert second["next_cursor"] is None


def test_registering_again_adds_nothing_and_notes_where_the_folder_is(database, model, tmp_path):
    before = counts(database)
    moved = register(database, model_folder(tmp_path / "elsewhere"))
    assert (moved.id, moved.folder) == (model.id, str(tmp_path / "elsewhere" / "starter"))
    assert counts(database) == before == (1, 5, 5)


def test_registering_again_undoes_no_edit(client, database, model, settings):
    song = client.get("/v1/songs").json()["items"][0]
    client.patch(f"/v1/songs/{song['id']}", json={"title": "Better"})
    register(database, settings.data_dir / "starter")
    assert client.get(f"/v1/songs/{song['id']}").json()["title"] == "Better"


def test_two_models_share_the_songs_of_one_catalogue(database, model, tmp_path):
    register(database, model_folder(tmp_path, name="second", songs=7))
    assert counts(database) == (2, 7, 12)


def test_two_at_once_register_once(database, tmp_path):
    folder = model_folder(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: register(database, folder).id, range(4)))
    assert len(set(found)) == 1
    assert counts(database) == (1, 5, 5)


def without(path):
    return lambda folder: (folder / path).unlink()


def saying(path, text):
    return lambda folder: (folder / path).write_text(text)


BROKEN = {
    "no manifest": without("index/manifest.json"),
    "no songs": without("songs.csv"),
    "manifest is no JSON": saying("index/manifest.json", "{"),
    "manifest is a list": saying("index/manifest.json", "[]"),
    "digest is none": lambda folder: model_folder(folder.parent, model_digest="short"),
    "another format": lambda folder: model_folder(folder.parent, format=1),
    "segments of no length": lambda folder: model_folder(folder.parent, segment_seconds=0),
    "no songs indexed": lambda folder: model_folder(folder.parent, indexed=0),
    "songs are no table": saying("songs.csv", "\x00"),
    "songs without titles": saying("songs.csv", "key,artist\nsong-0,x\n"),
    "a bad line": saying("songs.csv", "key,title,artist,isrc\nsong-0,x,y,12\n"),
    "an indexed song is missing": saying("songs.csv", "key,title,artist\nsong-0,x,y\n"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused_whole(case, database, tmp_path):
    folder = model_folder(tmp_path)
    BROKEN[case](folder)
    with pytest.raises(InvalidModel, match=str(folder)):
        register(database, folder)
    assert counts(database) == (0, 0, 0)


def test_an_index_belongs_to_one_model(database, model, tmp_path):
    with pytest.raises(InvalidModel, match="another model"):
        register(database, model_folder(tmp_path, model_digest=digest("0")))


def test_an_unknown_or_foreign_model_is_not_there(client, stranger, model):
    for answer in (
        client.get("/v1/models/nobody"),
        stranger.get("/v1/models/starter"),
        stranger.get(f"/v1/models/{model.id}"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:rootnote:problem:not-found")
    assert stranger.get("/v1/models").json()["items"] == []


def test_registering_is_not_a_route(client):
    assert client.post("/v1/models", json={"folder": "/etc"}).status_code == 405


def test_a_list_of_models_takes_two_statements(client, model):
    client.get("/v1/models")  # whether there is a quota is asked once in a while
    with statements() as sent:
        client.get("/v1/models")
    assert len([statement for statement in sent if statement.startswith("SELECT")]) == 2
