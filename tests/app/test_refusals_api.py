"""What cannot be attributed is refused at once, with its own type, and leaves nothing behind."""

from __future__ import annotations

import pytest

from app.main import create_app
from app.models import Attribution
from tests.app.here import client_of
from tests.app.sounds import Sound, wav_header
from tests.app.world import objects, rows

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


REFUSED = {
    "no body": ({"content": b""}, "empty"),
    "empty file": ({"files": {"audio": ("a.wav", b"")}}, "empty"),
    "no file": ({"data": {"prompt": "x"}}, "missing-file"),
    "no file, JSON": ({"json": {"prompt": "x"}}, "missing-file"),
    "text for a file": ({"data": {"audio": "x"}}, "missing-file"),
    "text called .wav": ({"files": {"audio": ("a.wav", b"this is no music at all" * 50)}}, "not-audio"),
    "64 channels": ({"files": {"audio": ("a.wav", Sound(channels=64, seconds=0.5).encode())}}, "too-many-channels"),
    "1 Hz": ({"files": {"audio": ("a.wav", Sound(rate=1, seconds=20).encode())}}, "bad-sample-rate"),
    "unknown model": ({"files": {"audio": ("a.wav", TRACK)}, "data": {"model": "other"}}, "unknown-model"),
    "unknown method": ({"files": {"audio": ("a.wav", TRACK)}, "data": {"method": "guess"}}, "unknown-method"),
    "top_k of 0": ({"files": {"audio": ("a.wav", TRACK)}, "data": {"top_k": "0"}}, "invalid-request"),
    "top_k of 1001": ({"files": {"audio": ("a.wav", TRACK)}, "data": {"top_k": "1001"}}, "invalid-request"),
    "top_k in words": ({"files": {"audio": ("a.wav", TRACK)}, "data": {"top_k": "ten"}}, "invalid-request"),
    "unknown field": ({"files": {"audio": ("a.wav", TRACK)}, "data": {"topk": "3"}}, "invalid-request"),
    "NUL in the prompt": ({"files": {"audio": ("a.wav", TRACK)}, "data": {"prompt": "a\x00b"}}, "invalid-request"),
}


@pytest.fixture
def refusing(database_settings, valkey):
    """The application with a broker that would take messages, and little room for uploads."""
    few = {"broker_url": valkey.url, "max_upload_bytes": 4_000_000}
    with client_of(create_app(database_settings.model_copy(update=few))) as client:
        yield client


def nothing_happened(settings, database, valkey):
    with valkey.client() as broker:
        return rows(database, Attribution) == 0 and not objects(settings) and not broker.llen("attribute.starter")


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_attributed_is_refused_with_its_own_type(case, refusing, model, settings, database, valkey):
    request, expected = REFUSED[case]
    answer = refusing.post(URL, **request)
    assert (slug(answer), answer.status_code) == (expected, {"not-audio": 415}.get(expected, 422))
    assert nothing_happened(settings, database, valkey)


def test_a_declared_length_of_ten_hours_is_refused(refusing, model, settings, database, valkey):
    rate = 8_000
    flood = wav_header(rate, 1, 10 * 3600 * rate * 2) + bytes(2_000_000)
    assert slug(post(refusing, audio=flood)) == "too-long"
    assert nothing_happened(settings, database, valkey)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_cap_is_refused(announced, refusing, model, settings, database, valkey):
    boundary = b"--x\r\nContent-Disposition: form-data; name=audio; filename=a.wav\r\n\r\n"
    body = boundary + TRACK + bytes(5_000_000) + b"\r\n--x--\r\n"
    pieces = body if announced else (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    answer = refusing.post(URL, content=pieces, headers={"content-type": "multipart/form-data; boundary=x"})
    assert (slug(answer), answer.status_code) == ("too-large", 413)
    assert nothing_happened(settings, database, valkey)


def test_a_storage_that_is_gone_queues_nothing(refusing, model, settings, database, valkey):
    (settings.data_dir / "objects").rmdir()
    (settings.data_dir / "objects").write_text("no folder any more")
    answer = post(refusing)
    assert (answer.status_code, slug(answer)) == (503, "storage-unavailable")
    assert nothing_happened(settings, database, valkey)


def test_an_accepted_track_rings(refusing, model, valkey):
    posted(refusing)
    with valkey.client() as broker:
        assert broker.llen("attribute.starter") == 1
        broker.delete("attribute.starter")
