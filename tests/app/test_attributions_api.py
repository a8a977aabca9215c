"""Attributions over HTTP: what comes in, what is refused, what is shown, and to whom."""

from __future__ import annotations

import pytest

from app.attributions.outcome import ErrorInfo
from app.catalogue.registry import register_model
from app.db import reading, transaction
from app.models import DEFAULT_TENANT, Attribution, Influence
from tests.app.sounds import Sound
from tests.app.world import SHARES, complete, fail, model_folder, rows, statements

URL = "/v1/attributions"
TRACK = Sound().encode()


def post(client, audio=TRACK, headers=None, name="track.wav", **fields):
    return client.post(URL, files={"audio": (name, audio)}, data=fields, headers=headers)


def posted(client, **fields):
    answer = post(client, **fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def slug(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["type"].removeprefix("urn:rootnote:problem:")


def test_a_track_is_accepted_although_the_broker_is_down(client, model):
    answer = post(client, prompt="slow piano", external_id="render-77", method="unlearn", top_k="3")
    shown = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{URL}/{shown['id']}"
    assert answer.headers["retry-after"] == "1"
    assert shown["status"] == "queued"
    assert (shown["prompt"], shown["external_id"], shown["method"], shown["top_k"]) == (
        "slow piano",
        "render-77",
        "unlearn",
        3,
    )
    assert shown["model"] == {"id": model.id, "name": "starter"}
    assert shown["audio"]["duration_s"] == pytest.approx(2.0)
    assert (shown["audio"]["filename"], shown["audio"]["bytes"]) == ("track.wav", len(TRACK))
    assert shown["result"] is None
    assert client.get(answer.headers["location"]).json() == shown


def test_filenames_lose_what_cannot_be_shown(client, model):
    name = "a\u202e\u0007" + "é" * 400 + ".wav"
    shown = client.get(f"{URL}/{posted(client, name=name)}").json()["audio"]["filename"]
    assert shown.startswith("aé") or "%" in shown
    assert len(shown) <= 300
    assert shown.isprintable()


def test_the_etag_stands_for_what_is_shown(client, model, database, settings):
    ident = posted(client)
    first = client.get(f"{URL}/{ident}")
    known = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
    unchanged = client.get(f"{URL}/{ident}", headers=known)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]
    complete(database, settings, ident)
    assert client.get(f"{URL}/{ident}", headers=known).status_code == 200


def test_a_result_says_how_it_was_found(client, model, database, settings):
    ident = posted(client)
    complete(database, settings, ident)
    shown = client.get(f"{URL}/{ident}").json()
    assert (shown["status"], shown["progress"], shown["error"]) == ("succeeded", 1.0, None)
    with reading(database) as session:
        worker_id = session.get_one(Attribution, ident).worker_id
    assert shown["result"] == {
        "method": "index",
        "measure": "squared_output + squared_noise",
        "draws": 64,
        "model_digest": model.model_digest,
        "index_digest": model.index_digest,
        "worker_id": worker_id,
        "provenance": {"verdict": "own", "probability": 0.98},
        "reference_loss": 0.1,
        "shares": "calibrated",
        "abstained": None,
        "unattributed": pytest.approx(0.3),
        "reliability": {"verdict": "good"},
        "timings": {"encoding": 0.5},
        "details": {"seed": 0},
    }
    assert client.get(f"{URL}/{ident}/influences").json()["result"] == shown["result"]


def test_shares_and_remainder_sum_to_one_whatever_is_shown(client, model, database, settings):
    ident = posted(client, top_k="2")
    complete(database, settings, ident)
    by_default = client.get(f"{URL}/{ident}/influences").json()
    assert [row["rank"] for row in by_default["items"]] == [1, 2]
    rest = client.get(f"{URL}/{ident}/influences", params={"cursor": by_default["next_cursor"], "limit": 100}).json()
    assert rest["next_cursor"] is None
    ranked = by_default["items"] + rest["items"]
    assert [row["rank"] for row in ranked] == list(range(1, len(SHARES) + 1))
    assert sum(row["share"] for row in ranked) + by_default["result"]["unattributed"] == pytest.approx(1)
    first = ranked[0]
    assert first["song"]["title"] == "Title 0"
    assert set(first["song"]) == {"id", "key", "title", "artist", "isrc"}
    assert (first["background_percentile"], len(first["matches"])) == (99.0, 1)
    assert first["check"] == {"mirrored": 0.01, "forward": 0.02}
    assert ranked[1]["check"] is None
    assert (first["score_low"], first["score"], first["score_high"]) == (9.0, 10.0, 11.0)
    assert [first[name] for name in ("share_low", "share_high", "effect")] == pytest.approx([0.15, 0.6, 0.03])


def test_an_unfinished_attribution_has_no_influences(client, model):
    page = client.get(f"{URL}/{posted(client)}/influences").json()
    assert (page["status"], page["result"], page["items"], page["next_cursor"]) == ("queued", None, [], None)


def test_a_failure_has_the_type_of_a_problem(client, model, database, settings):
    ident = posted(client)
    fail(database, settings, ident, ErrorInfo("silent", "not a sound"))
    shown = client.get(f"{URL}/{ident}").json()
    assert (shown["status"], shown["result"]) == ("failed", None)
    assert shown["error"] == {
        "type": "urn:rootnote:problem:silent",
        "title": "The audio is silent",
        "detail": "not a sound",
    }


def test_reading_takes_few_statements_however_long_the_result(client, model, database, settings):
    ident = posted(client)
    complete(database, settings, ident)
    for address, most in ((f"{URL}/{ident}", 1), (f"{URL}/{ident}/influences?limit=5", 3), (URL, 1)):
        client.get(address)  # whether a key exists is asked every two seconds, and not by the request that is counted
        with statements() as sent:
            assert client.get(address).status_code == 200
        selects = [statement for statement in sent if statement.startswith("SELECT")]
        assert len(selects) <= most, selects


def test_canceling_is_idempotent_and_never_undoes_an_end(client, model, database, settings):
    queued, ended = posted(client), posted(client)
    complete(database, settings, ended)
    assert [client.post(f"{URL}/{queued}/cancel").json()["status"] for _ in range(2)] == ["canceled", "canceled"]
    assert client.post(f"{URL}/{ended}/cancel").json()["status"] == "succeeded"
    assert rows(database, Influence) == len(SHARES)


def test_pages_hold_every_attribution_once_the_newest_first(client, model):
    made = [posted(client) for _ in range(5)]
    seen, cursor = [], None
    while cursor is not None or not seen:
        page = client.get(URL, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["id"] for row in page["items"]]
        cursor = page["next_cursor"]
    assert seen == made[::-1]


def test_lists_are_filtered_by_status_model_and_time(client, model, database, settings):
    first, second = posted(client), posted(client)
    complete(database, settings, first)

    def ids(**params):
        return [row["id"] for row in client.get(URL, params=params).json()["items"]]

    assert ids(status="succeeded") == [first]
    assert ids(status="queued") == [second]
    assert ids(model="starter") == [second, first]
    assert ids(model="other") == []
    assert ids(created_after=client.get(f"{URL}/{first}").json()["created_at"]) == [second]
    assert ids(created_after="2999-01-01") == []
    assert slug(client.get(URL, params={"status": "odd"})) == "invalid-request"


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "WyJzb25ncyIsIngiXQ"])
def test_a_foreign_or_broken_cursor_is_a_bad_request(cursor, client, model):
    ident = posted(client)
    for address in (URL, f"{URL}/{ident}/influences"):
        answer = client.get(address, params={"cursor": cursor})
        assert (answer.status_code, slug(answer)) == (400, "bad-cursor")


def test_a_track_is_attributed_again_by_the_newest_version(client, model, database, settings, tmp_path):
    first = posted(client, prompt="slow piano", external_id="render-77", top_k="3")
    complete(database, settings, first)
    report = client.get(f"{URL}/{first}/influences").json()
    with transaction(database) as session:
        newer = register_model(session, DEFAULT_TENANT, model_folder(tmp_path, index="e"))
    answer = client.post(f"{URL}/{first}/reattribute")
    again = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"{URL}/{again['id']}")
    assert (again["status"], again["repeats"], again["model"]["id"]) == ("queued", first, newer.id)
    before = client.get(f"{URL}/{first}").json()
    same = ("prompt", "external_id", "top_k", "method", "audio")
    assert [again[name] for name in same] == [before[name] for name in same]
    assert (before["repeats"], client.get(f"{URL}/{first}/influences").json()) == (None, report)
    unknown = client.post(f"{URL}/{first}/reattribute", params={"model": "nobody"})
    assert (unknown.status_code, slug(unknown)) == (422, "unknown-model")


@pytest.mark.parametrize(
    ("method", "tail"), [("GET", ""), ("GET", "/influences"), ("POST", "/cancel"), ("POST", "/reattribute")]
)
def test_anothers_attribution_is_not_there(method, tail, client, stranger, model):
    ident = posted(client)
    for who, what in ((stranger, ident), (client, "nothing"), (client, "%00")):
        answer = who.request(method, f"{URL}/{what}{tail}")
        assert (answer.status_code, slug(answer)) == (404, "not-found")
    assert stranger.get(URL).json()["items"] == []
    assert client.get(f"{URL}/{ident}").json()["status"] == "queued"
