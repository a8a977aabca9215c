"""One Idempotency-Key: one effect and one answer, whatever is sent again, by whom and when; on both databases."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from app.db import reading, transaction
from app.idempotency import service
from app.idempotency.digest import BodyDigest
from app.idempotency.routes import key_of
from app.idempotency.service import Answered, Asked, BadIdempotencyKey, Claim, IdempotencyKeyInUse
from app.main import create_app
from app.models import DEFAULT_TENANT, Attribution, IdempotencyKey, Song
from tests.app.here import client_of
from tests.app.sounds import Sound
from tests.app.world import rows

URL = "/v1/attributions"
TRACK = Sound().encode()
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


def post(client, audio=TRACK, headers=KEY, **fields):
    return client.post(URL, files={"audio": ("track.wav", audio)}, data=fields, headers=headers)


def slug(answer):
    return answer.json()["type"].removeprefix("urn:rootnote:problem:")


def test_a_track_sent_again_is_the_same_attribution_with_the_same_answer(client, model, database):
    first, second = post(client, prompt="slow"), post(client, prompt="slow")
    assert first.status_code == second.status_code == 202
    assert (first.content, first.headers["location"]) == (second.content, second.headers["location"])
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (False, "true")
    assert second.headers["retry-after"] == "1"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert rows(database, Attribution) == 1


def test_without_a_key_every_request_makes_its_own(client, model, database):
    assert post(client, headers=None).json()["id"] != post(client, headers=None).json()["id"]


def test_a_key_of_another_request_is_refused(client, model, database):
    assert post(client).status_code == 202
    song = client.post("/v1/songs", json={"title": "a", "artist": "b"}, headers=KEY)
    for other in (post(client, prompt="x"), post(client, Sound(seconds=3).encode()), song):
        assert (other.status_code, slug(other)) == (422, "idempotency-key-reused")
    assert (rows(database, Attribution), rows(database, IdempotencyKey)) == (1, 1)


def test_what_was_refused_leaves_its_key_free(client, model, database):
    assert post(client, b"no audio").status_code == 415
    assert rows(database, IdempotencyKey) == 0
    assert post(client).status_code == 202


def test_keys_belong_to_tenants(client, stranger, model):
    song = {"title": "Night Drive", "artist": "The Examples"}
    mine, theirs = (each.post("/v1/songs", json=song, headers=KEY) for each in (client, stranger))
    assert mine.status_code == theirs.status_code == 201
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("key", ["", " ", '"', '""', "a b", '"é"'.encode(), "x" * 256, '"a'])
def test_what_cannot_be_a_key_is_refused(key, client, model):
    answer = post(client, headers={"Idempotency-Key": key})
    assert (answer.status_code, slug(answer)) == (400, "idempotency-key-invalid")


def test_a_bare_word_and_a_structured_string_are_one_key():
    assert key_of("abc-1") == key_of('"abc-1"') == "abc-1"
    assert key_of(r'"a\"b\\c"') == r"a\"b\c".replace('\\"', '"')
    with pytest.raises(BadIdempotencyKey):
        key_of('"a"b"')


def test_songs_imports_batches_and_repetitions_are_made_once_too(client, model, database):
    before = rows(database, Song)
    track = post(client, headers=None).json()["id"]
    items = json.dumps([{"custom_id": "a", "file": "one"}])
    calls = {
        "song": lambda: client.post("/v1/songs", json={"title": "a", "artist": "b"}, headers={"Idempotency-Key": "s"}),
        "import": lambda: client.post(
            "/v1/songs/import",
            content="key,title,artist\nk,T,A\n",
            headers={"content-type": "text/csv", "Idempotency-Key": "i"},
        ),
        "again": lambda: client.post(f"{URL}/{track}/reattribute", headers={"Idempotency-Key": "r"}),
        "batch": lambda: client.post(
            "/v1/batches", data={"batch": "b", "items": items}, files={"one": TRACK}, headers={"Idempotency-Key": "b"}
        ),
    }
    for call in calls.values():
        first, second = call(), call()
        assert first.is_success, first.text
        assert (second.content, second.headers["idempotency-replayed"]) == (first.content, "true")
    assert (rows(database, Song) - before, rows(database, Attribution)) == (2, 3)


def test_at_the_same_time_one_is_carried_out_and_the_other_told_to_come_back(client, model, database):
    together = Barrier(4)

    def send(_):
        together.wait()
        return post(client)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))
    assert rows(database, Attribution) == 1
    for answer in answers:
        assert answer.status_code in {202, 409}
        if answer.status_code == 409:
            assert (slug(answer), int(answer.headers["retry-after"]) >= 1) == ("idempotency-key-in-use", True)
    assert post(client).status_code == 202


def test_a_request_whose_process_died_is_taken_over_and_makes_nothing_twice(client, model, database):
    first = post(client).json()
    with transaction(database) as session:  # as if the process had died between its commit and its answer
        lost = update(IdempotencyKey).values(status=None, headers=None, body=None)
        session.execute(lost.values(locked_until=database.clock() + timedelta(hours=1)))
    assert post(client).status_code == 409
    with transaction(database) as session:
        session.execute(update(IdempotencyKey).values(locked_until=database.clock()))
    again = post(client)
    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    assert rows(database, Attribution) == 1
    assert post(client).headers["idempotency-replayed"] == "true"


def test_an_unsure_end_keeps_the_key_bound_to_what_it_may_have_made(
    client, model, database, database_settings, tmp_path
):
    broken = create_app(database_settings.model_copy(update={"storage_url": f"file://{tmp_path}/gone"}))
    with client_of(broken) as other:
        shutil.rmtree(tmp_path / "gone")
        (tmp_path / "gone").touch()
        assert post(other).status_code == 503
    with reading(database) as session:
        held = session.scalars(select(IdempotencyKey)).one()
    answer = post(client)
    assert (answer.status_code, answer.json()["id"]) == (202, held.made_id)


ASKED = Asked(DEFAULT_TENANT, "k", "f" * 64)


def _claim(db, settings, asked=ASKED):
    with transaction(db) as session:
        return service.claim(session, asked, settings)


def test_who_was_overtaken_cannot_write_an_answer(db, settings, clock):
    first = _claim(db, settings)
    clock.forward(settings.idempotency_lock_seconds)
    second = _claim(db, settings)
    assert (second.made_id, second.again, second.token != first.token) == (first.made_id, True, True)
    with transaction(db) as session:
        service.finish(session, first, Answered(201, {}, "late"))
        service.leave(session, first, unsure=False)
        service.finish(session, second, Answered(201, {"location": "/x"}, "right"))
    assert _claim(db, settings) == Answered(201, {"location": "/x"}, "right")


def test_a_claim_is_renewed_by_whom_it_belongs_to(db, settings, clock):
    first = _claim(db, settings)
    clock.forward(settings.idempotency_lock_seconds - 1)
    with transaction(db) as session:
        service.renew(session, first, settings)
    clock.forward(settings.idempotency_lock_seconds - 1)
    with pytest.raises(IdempotencyKeyInUse):
        _claim(db, settings)
    clock.forward(1)
    second = _claim(db, settings)
    clock.forward(1)
    with transaction(db) as session:
        service.renew(session, first, settings)
        row = session.scalars(select(IdempotencyKey)).one()
    assert row.token == second.token
    assert row.locked_until == clock() + timedelta(seconds=settings.idempotency_lock_seconds - 1)


def test_a_request_that_takes_longer_than_its_lock_keeps_it(model, database_settings):
    patient = KEY | {"Prefer": "wait=2"}
    hasty = database_settings.model_copy(update={"idempotency_lock_seconds": 0.6})
    with client_of(create_app(hasty)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client, headers=patient)
        time.sleep(1.2)
        assert slug(post(client, headers=patient)) == "idempotency-key-in-use"
        assert first.result().status_code == 202
        assert post(client, headers=patient).headers["idempotency-replayed"] == "true"


def test_after_a_day_a_key_is_new(db, settings, clock):
    with transaction(db) as session:
        held = service.claim(session, ASKED, settings)
        service.finish(session, held, Answered(201, {}, "old"))
        service.claim(session, Asked(DEFAULT_TENANT, "other", "f"), settings)
    clock.forward(settings.idempotency_ttl_seconds)
    anew = _claim(db, settings, Asked(DEFAULT_TENANT, "k", "another request"))
    assert isinstance(anew, Claim)
    assert anew.made_id != held.made_id
    with transaction(db) as session:
        assert service.forget(session) == 1
    with reading(db) as session:
        assert session.scalars(select(IdempotencyKey.key)).all() == ["k"]


FORM = b"--%b\r\nContent-Disposition: form-data; name=a\r\n\r\n--1\r\n--%b\r\n\r\n-\r\n--%b--\r\n"


@given(st.lists(st.integers(1, 120), max_size=8), st.sampled_from([b"bound", b"aaa", b"-", b"0123456789" * 4]))
def test_a_forms_digest_knows_neither_its_boundary_nor_how_it_is_cut(cuts, boundary):
    body, places = FORM % ((boundary,) * 3), sorted({min(cut, 60) for cut in cuts})
    whole, pieces = BodyDigest(boundary), BodyDigest(boundary)
    whole.update(body)
    for start, stop in zip([0, *places], [*places, len(body)], strict=True):
        pieces.update(body[start:stop])
    assert whole.hexdigest() == pieces.hexdigest()


def test_another_content_has_another_digest():
    def digest(body, boundary=b"b0undary"):
        taken = BodyDigest(boundary)
        taken.update(body)
        return taken.hexdigest()

    form = FORM % ((b"b0undary",) * 3)
    assert digest(form) == digest(FORM % ((b"an0ther",) * 3), b"an0ther")
    assert digest(form) != digest(form.replace(b"--1", b"--2"))
    assert digest(b"x", b"") != digest(b"y", b"")
