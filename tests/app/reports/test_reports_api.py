"""Signed reports over HTTP: whole, the same each time, verified anywhere, and as a table."""

from __future__ import annotations

import csv
import io
import json

import pytest

from app.db import transaction
from app.models import Attribution, Song
from app.reports import keys
from app.reports.sealing import unseal
from tests.app.sounds import Sound
from tests.app.test_songs_api import problem
from tests.app.world import SHARES, complete

POSTED = "/v1/attributions"


@pytest.fixture
def ended(client, database, settings, model):
    """The id of an attribution that has succeeded."""
    form = {"prompt": "=slow", "external_id": "render-77"}
    ident = client.post(POSTED, files={"audio": ("track.wav", Sound().encode())}, data=form).json()["id"]
    complete(database, settings, ident)
    return ident


def report(client, ident):
    answer = client.get(f"{POSTED}/{ident}/report")
    assert answer.status_code == 200, answer.text
    return answer.content


def verify(client, data):
    answer = client.post("/v1/reports/verify", content=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_report_says_all_that_was_found(client, ended):
    document = json.loads(report(client, ended))["document"]
    shown = client.get(f"{POSTED}/{ended}").json()
    ranking = client.get(f"{POSTED}/{ended}/influences", params={"limit": 200}).json()["items"]
    assert document["attribution"]["prompt"] == "=slow"
    assert document["track"] == shown["audio"]
    assert document["model"] == shown["model"] | {
        "digest": shown["result"]["model_digest"],
        "index_digest": shown["result"]["index_digest"],
    }
    assert {name: shown["result"][name] for name in document["result"]} == document["result"]
    assert document["result"]["details"]["seed"] == 0
    assert document["attribution"]["counted"] is True
    bare = [{**each, "song": each["song"] | {"iswc": None, "rights": []}} for each in ranking]
    assert document["influences"] == [
        {name: each[name] for name in row} for each, row in zip(bare, document["influences"], strict=True)
    ]
    total = sum(row["share"] for row in document["influences"]) + document["result"]["unattributed"]
    assert total == pytest.approx(1, abs=1e-12)
    assert shown["finished_at"][:19] == document["attribution"]["ended_at"][:19]
    assert any("not a finding" in line for line in document["disclaimers"])


def test_the_same_attribution_gives_the_same_bytes(client, ended, database):
    first = report(client, ended)
    assert report(client, ended) == first
    with transaction(database) as session:
        session.get(Song, json.loads(first)["document"]["influences"][0]["song"]["id"]).title = "Another title"
    assert report(client, ended) != first
    assert verify(client, first)["valid"]


def test_a_report_is_verified_here_and_anywhere(client, ended):
    data = report(client, ended)
    told = verify(client, data)
    assert told == {
        "valid": True,
        "reason": None,
        "key_id": told["key_id"],
        "type": "rootnote.report",
        "schema": 2,
        "subject": ended,
    }
    (listed,) = client.get("/v1/report-keys").json()["items"]
    assert (listed["id"], listed["algorithm"], listed["signs"]) == (told["key_id"], "ed25519", True)
    assert unseal(data, lambda _: keys.public(listed["public_key"])).valid
    for changed in (data.replace(b"render-77", b"render-78"), data + b"\n", b" ", b"[]", b'{"a":\x00}'):
        answer = verify(client, changed)
        assert (answer["valid"], answer["subject"]) == (False, None)
        assert answer["reason"]


def test_nothing_is_no_document(client):
    assert problem(client.post("/v1/reports/verify")) == (422, "invalid-request")


def test_after_a_rotation_earlier_reports_are_valid_and_new_ones_are_signed_anew(client, ended, database_settings):
    first = report(client, ended)
    keys.rotate(database_settings)
    second = report(client, ended)
    assert verify(client, first)["valid"]
    assert verify(client, second)["valid"]
    assert verify(client, first)["key_id"] != verify(client, second)["key_id"]
    assert json.loads(first)["document"] == json.loads(second)["document"]
    assert [row["signs"] for row in client.get("/v1/report-keys").json()["items"]] == [True, False]


def test_a_report_names_who_holds_the_songs(client, ended):
    first = json.loads(report(client, ended))["document"]["influences"][0]["song"]
    right = {"party": "Ada", "role": "label", "ipi": "00014107338", "isni": None, "share": 0.5}
    song = client.patch(f"/v1/songs/{first['id']}", json={"rights": [right]}).json()
    (held,) = json.loads(report(client, ended))["document"]["influences"][0]["song"]["rights"]
    assert held == right | {"holder_id": song["rights"][0]["holder_id"]}


def test_the_table_says_what_the_report_says(client, ended, database):
    with transaction(database) as session:
        for song in session.query(Song):
            song.title = f"={song.title}"
    document = json.loads(report(client, ended))["document"]
    answer = client.get(f"{POSTED}/{ended}/report.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    *rows, rest = csv.DictReader(io.StringIO(answer.text))
    assert [float(row["share"]) for row in rows] == [row["share"] for row in document["influences"]] == list(SHARES)
    assert {row["song_title"][:2] for row in rows} == {"'="}
    assert (rest["song_title"], float(rest["share"])) == ("unattributed", document["result"]["unattributed"])


@pytest.mark.parametrize("form", ["report", "report.csv"])
def test_without_a_result_there_is_no_report(client, model, stranger, ended, form):
    waiting = client.post(POSTED, files={"audio": ("track.wav", Sound(seconds=3).encode())}).json()["id"]
    assert problem(client.get(f"{POSTED}/{waiting}/{form}")) == (409, "no-result")
    assert problem(client.get(f"{POSTED}/nobody/{form}")) == (404, "not-found")
    assert problem(stranger.get(f"{POSTED}/{ended}/{form}")) == (404, "not-found")


def test_an_attribution_without_a_calibration_says_so(client, ended, database):
    with transaction(database) as session:
        session.get(Attribution, ended).calibrated = False
    assert "no unit" in json.loads(report(client, ended))["document"]["disclaimers"][-1]
