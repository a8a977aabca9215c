"""Batches over HTTP: every item by itself, and once."""

from __future__ import annotations

import hashlib
import json

import pytest

from app.attributions.batch_schemas import MAX_ITEMS
from app.client import Client, Track
from app.models import Attribution, Status
from tests.app.live import serving
from tests.app.sounds import Sound
from tests.app.world import complete, objects, rows

URL = "/v1/batches"
WAV = Sound().encode()


def send(client, items, batch="b-1", **files):
    parts = {name: (f"{name}.wav", data) for name, data in files.items()}
    return client.post(URL, data={"batch": batch, "items": json.dumps(items)}, files=parts or {"none": b""})


def sent(client, items, batch="b-1", **files):
    answer = send(client, items, batch, **files)
    assert answer.status_code == 202, answer.text
    return answer.json()


def slugs(receipt):
    return {
        item["custom_id"]: item["error"] and item["error"]["type"].removeprefix("urn:rootnote:problem:")
        for item in receipt["items"]
    }


def test_each_item_is_accepted_or_refused_by_itself(client, model, database):
    receipt = sent(
        client,
        [
            {"custom_id": "good", "file": "one", "prompt": "slow piano", "top_k": 3},
            {"custom_id": "wide", "file": "wide"},
            {"custom_id": "lost", "file": "nowhere"},
            {"custom_id": "elsewhere", "file": "one", "model": "nobody"},
            {"custom_id": "odd", "file": "one", "method": "magic"},
            {"custom_id": "unheard", "sha256": "0" * 64},
            {"custom_id": "both", "file": "one", "sha256": "0" * 64},
            {"custom_id": "grey", "file": "one", "colour": "grey"},
            {"custom_id": "too", "file": "one"},
        ],
        one=WAV,
        wide=Sound(channels=9).encode(),
    )
    assert slugs(receipt) == {
        "good": None,
        "wide": "too-many-channels",
        "lost": "missing-file",
        "elsewhere": "unknown-model",
        "odd": "unknown-method",
        "unheard": "unknown-audio",
        "both": "invalid-request",
        "grey": "invalid-request",
        "too": None,
    }
    assert (receipt["accepted"], receipt["known"], receipt["refused"]) == (2, 0, 7)
    assert rows(database, Attribution) == 2
    shown = client.get(f"/v1/attributions/{receipt['items'][0]['attribution_id']}").json()
    assert (shown["status"], shown["prompt"], shown["external_id"], shown["top_k"]) == (
        "queued", "slow piano", "good", 3
    )  # fmt: skip


def test_sending_again_adds_only_what_is_new(client, model, database, settings):
    first = sent(client, [{"custom_id": "a", "file": "one"}], one=WAV)
    again = sent(client, [{"custom_id": "a", "file": "gone"}, {"custom_id": "b", "file": "one"}], one=WAV)
    assert again["items"][0] == first["items"][0] | {"known": True}
    assert (again["accepted"], again["known"], again["refused"]) == (1, 1, 0)
    assert rows(database, Attribution) == 2
    assert len(objects(settings)) == 1
    elsewhere = sent(client, [{"custom_id": "a", "file": "one"}], batch="b-2", one=WAV)
    assert (elsewhere["accepted"], rows(database, Attribution)) == (1, 3)


def test_a_track_that_was_sent_before_needs_only_its_digest(client, stranger, model, database, settings):
    sent(client, [{"custom_id": "a", "file": "one"}], one=WAV)
    digest = hashlib.sha256(WAV).hexdigest()
    receipt = sent(client, [{"custom_id": "again", "sha256": digest, "method": "unlearn"}])
    shown = client.get(f"/v1/attributions/{receipt['items'][0]['attribution_id']}").json()
    assert (shown["audio"]["sha256"], shown["audio"]["duration_s"], shown["method"]) == (digest, 2.0, "unlearn")
    assert len(objects(settings)) == 1
    assert slugs(sent(stranger, [{"custom_id": "mine", "sha256": digest}])) == {"mine": "unknown-model"}


@pytest.mark.parametrize(
    ("batch", "items"),
    [
        ("b", "no JSON"),
        ("b", "{}"),
        ("b", "[]"),
        ("b", "[1]"),
        ("b", '[{"file": "one"}]'),
        ("b", '[{"custom_id": "", "file": "one"}]'),
        ("b", '[{"custom_id": "a\\u0000", "file": "one"}]'),
        ("b", json.dumps([{"custom_id": "twice", "file": "one"}] * 2)),
        ("b", json.dumps([{"custom_id": str(number), "file": "one"} for number in range(MAX_ITEMS + 1)])),
        ("", '[{"custom_id": "a", "file": "one"}]'),
        ("a/b", '[{"custom_id": "a", "file": "one"}]'),
    ],
)
def test_what_is_no_batch_is_refused_whole(batch, items, client, model, database):
    answer = client.post(URL, data={"batch": batch, "items": items}, files={"one": WAV})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:rootnote:problem:invalid-request")
    assert rows(database, Attribution) == 0
    assert client.post(URL, json={}).status_code == 422


def test_a_batch_counts_and_pages_its_items(client, stranger, model, database, settings):
    names = [f"item-{number:02d}" for number in range(25)]
    receipt = sent(client, [{"custom_id": name, "file": "one"} for name in reversed(names)], one=WAV)
    assert [item["custom_id"] for item in receipt["items"]] == names[::-1]
    complete(database, settings, receipt["items"][0]["attribution_id"])
    shown = client.get(f"{URL}/b-1").json()
    assert shown == {"batch": "b-1", "items": 25, "counts": {"queued": 24, "succeeded": 1}, "ended": 1}
    first = client.get(f"{URL}/b-1/items").json()
    rest = client.get(f"{URL}/b-1/items", params={"cursor": first["next_cursor"]}).json()
    assert len(first["items"]) == 20
    assert [item["custom_id"] for item in first["items"] + rest["items"]] == names
    assert rest["items"][-1]["attribution"]["status"] == "succeeded"
    for who, address in ((client, f"{URL}/b-2"), (stranger, f"{URL}/b-1"), (stranger, f"{URL}/b-1/items")):
        assert who.get(address).status_code == 404
    assert client.get(f"{URL}/b-1/items", params={"cursor": "x"}).status_code == 400


def test_a_client_sends_a_batch_and_reads_it(app, model, database, tmp_path):
    tracks = {}
    for name in ("x", "y"):
        path = tmp_path / f"{name}.wav"
        path.write_bytes(Sound().encode())
        tracks[name] = Track(path, prompt=f"prompt of {name}")
    with serving(app) as url, Client(url) as api:
        receipt = api.add_to_batch("night", tracks)
        assert (receipt.accepted, receipt.refused) == (2, 0)
        assert api.add_to_batch("night", tracks).known == 2
        assert api.batch("night").counts == {Status.QUEUED: 2}
        items = list(api.batch_items("night"))
        assert [(item.custom_id, item.attribution.prompt) for item in items] == [
            ("x", "prompt of x"),
            ("y", "prompt of y"),
        ]
        assert [month.jobs for month in api.usage().months] == [2]
