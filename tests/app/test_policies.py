"""What was allowed with a song and when, and which songs a model was trained on without being allowed to."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from app.catalogue.registry import register_model
from app.db import transaction
from app.models import DEFAULT_TENANT, Model, SongPolicy
from tests.app.live import serving
from tests.app.test_songs_api import FACTS, imported, made, problem
from tests.app.world import model_folder, rows

SPRING, JUNE, AUTUMN = "2026-03-01T00:00:00Z", "2026-06-01T00:00:00Z", "2026-09-01T00:00:00Z"


def history(client, song):
    found = client.get(f"/v1/songs/{song}/policies").json()["items"]
    return [(each["policy"], each["valid_from"], each["valid_to"]) for each in found]


def test_a_change_is_another_statement_and_none_is_edited(client):
    song = made(client)["id"]
    assert history(client, song) == [("allow", None, None)]
    changed = client.patch(f"/v1/songs/{song}", json={"training_policy": "block"}).json()
    assert changed["training_policy"] == "block"
    assert history(client, song) == [("block", changed["updated_at"], None), ("allow", None, None)]
    for _ in range(2):
        client.patch(f"/v1/songs/{song}", json={"training_policy": "block"})
    dated = {"training_policy": "limit", "policy_from": SPRING, "policy_to": JUNE}
    for _ in range(2):
        assert client.patch(f"/v1/songs/{song}", json=dated).json()["training_policy"] == "block"
    assert history(client, song)[0] == ("limit", SPRING, JUNE)
    assert len(history(client, song)) == 3


def test_until_something_holds_nothing_is_allowed(client):
    future = made(client, training_policy="allow", policy_from="2999-01-01")
    assert future["training_policy"] == "block"
    assert history(client, future["id"]) == [("allow", "2999-01-01T00:00:00Z", None)]
    assert made(client, training_policy="limit", policy_from=SPRING)["training_policy"] == "limit"


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy_from": SPRING},
        {"training_policy": "block", "policy_from": JUNE, "policy_to": SPRING},
        {"training_policy": "block", "policy_from": JUNE, "policy_to": JUNE},
        {"training_policy": "block", "policy_from": "June"},
    ],
)
def test_dates_that_make_no_sense_are_refused(client, wrong):
    song = made(client)["id"]
    assert problem(client.post("/v1/songs", json=FACTS | wrong)) == (422, "invalid-request")
    assert problem(client.patch(f"/v1/songs/{song}", json=wrong)) == (422, "invalid-request")
    assert history(client, song) == [("allow", None, None)]


def test_policies_come_with_dates_by_csv_and_the_same_file_again_states_nothing(client, database):
    text = "key,title,artist,training_policy,policy_from,policy_to\na,A,A,block,2026-06-01,\nb,B,B,limit,,2026-06-01\n"
    assert imported(client, text)["created"] == 2
    assert imported(client, text)["unchanged"] == 2
    assert rows(database, SongPolicy) == 2
    (song,) = client.get("/v1/songs", params={"key": "a"}).json()["items"]
    assert history(client, song["id"]) == [("block", JUNE, None)]
    assert imported(client, text.replace("block", "allow"))["updated"] == 1
    report = imported(client, text.replace("2026-06-01,\n", "2026-06-31,\n"))
    assert [(error["line"], error["column"], error["field"]) for error in report["errors"]] == [(2, 5, "policy_from")]


def audit(client, **params):
    answer = client.get("/v1/models/starter/audit", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def trained(client, database, model):
    """A model that was registered in July, after one of its songs was blocked in June and others had dates."""
    with transaction(database) as session:
        session.get(Model, model.id).created_at = datetime(2026, 7, 1, tzinfo=UTC)
    songs = {each["key"]: each["id"] for each in client.get("/v1/songs").json()["items"]}
    stated = {
        "song-0": {"training_policy": "block", "policy_from": JUNE},
        "song-1": {"training_policy": "block", "policy_from": AUTUMN},
        "song-2": {"training_policy": "limit", "policy_from": SPRING, "policy_to": AUTUMN},
        "song-3": {"training_policy": "block", "policy_from": SPRING, "policy_to": JUNE},
    }
    for key, facts in stated.items():
        assert client.patch(f"/v1/songs/{songs[key]}", json=facts).status_code == 200
    return songs


def test_an_audit_asks_what_held_when_the_model_was_trained(client, trained):
    found = audit(client)
    assert (found["at"], found["songs"]) == ("2026-07-01T00:00:00Z", 5)
    assert (found["blocked"], found["limited"], found["unstated"], found["without_permission"]) == (1, 1, 0, 1)
    assert [(each["song"]["key"], each["policy"]) for each in found["items"]] == [
        ("song-0", "block"),
        ("song-2", "limit"),
    ]
    assert audit(client, at="2026-04-01")["without_permission"] == 1
    assert [each["song"]["key"] for each in audit(client, at="2026-04-01")["items"]] == ["song-2", "song-3"]
    later = audit(client, at="2026-10-01")
    assert [each["song"]["key"] for each in later["items"]] == ["song-0", "song-1"]


def test_a_later_change_does_not_make_an_earlier_training_right_or_wrong(client, trained):
    before = audit(client)
    for song in trained.values():
        client.patch(f"/v1/songs/{song}", json={"training_policy": "block"})
        client.patch(f"/v1/songs/{song}", json={"training_policy": "allow"})
    assert audit(client) == before


def test_where_nothing_was_stated_nothing_was_allowed(client, trained, database):
    with transaction(database) as session:
        session.query(SongPolicy).filter(SongPolicy.song_id == trained["song-4"]).delete()
    found = audit(client)
    assert (found["unstated"], found["without_permission"]) == (1, 2)
    assert found["items"][-1] == found["items"][-1] | {"policy": None, "valid_from": None}
    first = audit(client, limit=1)
    second = audit(client, limit=200, cursor=first["next_cursor"])
    assert first["items"] + second["items"] == found["items"]


def test_an_index_can_say_when_its_model_was_trained(database, settings, client):
    folder = model_folder(settings.data_dir, "dated", index="e", trained_at="2026-02-03T00:00:00+00:00")
    with transaction(database) as session:
        register_model(session, DEFAULT_TENANT, folder)
    assert client.get("/v1/models/dated/audit").json()["at"] == "2026-02-03T00:00:00Z"


def test_another_tenants_songs_and_models_are_not_there(client, trained, stranger):
    assert problem(stranger.get(f"/v1/songs/{trained['song-0']}/policies")) == (404, "not-found")
    assert problem(stranger.get("/v1/models/starter/audit")) == (404, "not-found")


def test_by_command(app, run, trained, client, monkeypatch):
    with serving(app) as url:
        monkeypatch.setenv("ROOTNOTE_URL", url)
        status, out, _ = run("audit", "starter")
        assert (status, "without permission: 1; allowed within limits: 1" in out) == (1, True)
        assert "block since 2026-06-01" in out
        status, out, _ = run("audit", "starter", "--at", "2026-01-01", "--json")
        found = json.loads(out[out.index('{"model"') :])
        assert (status, found["without_permission"], found["songs"]) == (0, 0, 5)
        made(client, rights=[{"party": "Ada Lovelace", "role": "label", "share": 1, "ipi": "14107338"}])
        status, out, _ = run("holders", "love")
        assert (status, "Ada Lovelace (IPI 00014107338)" in out) == (0, True)
