"""Counterfactuals over HTTP: asked for, followed, heard, refused with a type."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, update

from app.counterfactuals import service
from app.db import transaction
from app.models import DEFAULT_TENANT, Attribution, Counterfactual, IdempotencyKey, Influence, Take
from tests.app import forgotten
from tests.app.forgotten import SOUNDS
from tests.app.test_attributions_api import posted, slug
from tests.app.world import complete, rows

PROMPT = "slow piano"


@pytest.fixture
def ended(client, database, database_settings, model):
    """An attribution that has ended, and the ids of its songs, best first: those at even places share an artist."""
    ident = posted(client, prompt=PROMPT, seed=7)
    complete(database, database_settings, ident)
    items = client.get(f"/v1/attributions/{ident}/influences").json()["items"]
    return ident, [item["song"]["id"] for item in items]


def asked(client, ident, song, headers=None, **more):
    return client.post(f"/v1/attributions/{ident}/counterfactuals", json={"song_id": song} | more, headers=headers)


def test_a_song_is_forgotten_and_both_versions_are_heard(client, ended, database, database_settings):
    ident, songs = ended
    answer = asked(client, ident, songs[0])
    made = answer.json()
    assert (answer.status_code, int(answer.headers["retry-after"])) == (202, 2)
    assert (made["status"], made["song"]["id"], made["attribution_id"]) == ("queued", songs[0], ident)
    assert (made["prompt"], made["seed"], made["result"]) == (PROMPT, 7, None)
    where = answer.headers["location"]
    assert client.get(where).headers["retry-after"] == "2"
    forgotten.complete(database, database_settings, made["id"])
    done = client.get(where)
    assert "retry-after" not in done.headers
    result = done.json()["result"]
    assert (done.json()["status"], result["measure"], result["loss"]) == ("succeeded", "loss", 0.5)
    assert result["song"]["change"] == {"mean": 0.05, "low": 0.04, "high": 0.06}
    assert result["control"]["apart"] is None
    assert result["difference"]["mean"] == pytest.approx(0.045)
    for take in Take:
        heard = client.get(result["audio"][take]["url"])
        assert (heard.status_code, heard.content) == (200, SOUNDS[take])
        assert heard.headers["content-type"] == "audio/flac"
    part = client.get(result["audio"]["control"]["url"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, SOUNDS[Take.CONTROL][10:20])


def test_the_control_is_another_song_by_the_artist(client, ended):
    ident, songs = ended
    control = asked(client, ident, songs[0]).json()["control"]
    assert control["matched_by"] == "artist"
    assert control["song"]["id"] in {songs[2], songs[4]}


def test_without_another_song_by_the_artist_the_control_is_of_its_length(client, ended, database):
    ident, songs = ended
    client.patch(f"/v1/songs/{songs[0]}", json={"artist": "Nobody Else"})
    control = asked(client, ident, songs[0]).json()["control"]
    assert control["matched_by"] == "length"
    assert control["song"]["id"] != songs[0]


def test_a_prompt_and_a_seed_may_be_given(client, ended):
    ident, songs = ended
    made = asked(client, ident, songs[1], prompt="fast drums", seed=99).json()
    assert (made["prompt"], made["seed"]) == ("fast drums", 99)


def test_the_same_question_again_is_answered_with_what_there_is(client, ended, database, database_settings):
    ident, songs = ended
    first = asked(client, ident, songs[0]).json()
    assert asked(client, ident, songs[0], prompt=PROMPT, seed=7).json()["id"] == first["id"]
    forgotten.complete(database, database_settings, first["id"])
    assert asked(client, ident, songs[0]).json()["status"] == "succeeded"
    assert asked(client, ident, songs[0], seed=8).json()["id"] != first["id"]
    assert asked(client, ident, songs[1]).json()["id"] != first["id"]
    assert rows(database, Counterfactual) == 3


def test_two_who_ask_the_same_at_once_are_told_of_one(client, ended, database, database_settings):
    ident, songs = ended
    request, mine = service.NewCounterfactual(songs[0]), {"tenant_id": DEFAULT_TENANT, "attribution_id": ident}
    with ThreadPoolExecutor(1) as pool:
        with transaction(database) as session:
            first = service.create(session, **mine, request=request, settings=database_settings).id
            second = pool.submit(asked, client, ident, songs[0])
            with pytest.raises(TimeoutError):
                second.result(timeout=0.5)
        assert second.result().json()["id"] == first
    assert rows(database, Counterfactual) == 1


def test_under_one_key_it_is_asked_for_once_and_answered_alike(client, ended, database):
    ident, songs = ended
    key = {"Idempotency-Key": "forget-1"}
    first = asked(client, ident, songs[0], key)
    client.post(f"{first.headers['location']}/cancel")
    second = asked(client, ident, songs[0], key)
    assert (second.content, second.headers["idempotency-replayed"]) == (first.content, "true")
    assert second.headers["location"] == first.headers["location"]
    assert slug(asked(client, ident, songs[1], key)) == "idempotency-key-reused"
    with transaction(database) as session:  # as if the process had died between its commit and its answer
        lost = update(IdempotencyKey).values(status=None, headers=None, body=None, locked_until=database.clock())
        session.execute(lost)
    third = asked(client, ident, songs[0], key).json()
    assert (third["id"], third["status"]) == (first.json()["id"], "canceled")
    assert rows(database, Counterfactual) == 1


def test_after_a_canceled_one_the_question_is_asked_anew(client, ended):
    ident, songs = ended
    where = asked(client, ident, songs[0]).headers["location"]
    assert client.post(f"{where}/cancel").json()["status"] == "canceled"
    assert client.post(f"{where}/cancel").json()["status"] == "canceled"
    assert asked(client, ident, songs[0]).headers["location"] != where


def test_a_running_one_is_canceled_by_its_worker(client, ended, database, database_settings):
    ident, songs = ended
    where = asked(client, ident, songs[0]).headers["location"]
    held = forgotten.taken(database, database_settings, where.rsplit("/", 1)[1])
    seen = client.post(f"{where}/cancel").json()
    assert (seen["status"], seen["cancel_requested"], seen["stage"]) == ("running", True, "decoding")
    assert held.attempt == 1


def test_the_list_is_newest_first_and_goes_on_by_cursor(client, ended):
    ident, songs = ended
    made = [asked(client, ident, song).json()["id"] for song in songs]
    address = f"/v1/attributions/{ident}/counterfactuals"
    first = client.get(address, params={"limit": 3}).json()
    second = client.get(address, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None
    assert slug(client.get(address, params={"cursor": "x"})) == "bad-cursor"


def test_what_cannot_be_asked_is_refused_with_a_type(client, ended, model):
    ident, songs = ended
    unended = posted(client, prompt=PROMPT)
    other = client.post("/v1/songs", json={"title": "Other", "artist": "Someone"}).json()["id"]
    assert slug(asked(client, unended, songs[0])) == "not-attributed"
    assert slug(asked(client, ident, "nothing")) == "unknown-song"
    assert slug(asked(client, ident, other)) == "not-in-training-set"
    assert slug(asked(client, "nothing", songs[0])) == "not-found"
    assert slug(asked(client, ident, songs[0], seed=-1)) == "invalid-request"
    assert slug(asked(client, ident, songs[0], seed=2**31)) == "invalid-request"
    assert slug(asked(client, ident, songs[0], step=0.5)) == "invalid-request"
    assert slug(client.get("/v1/counterfactuals/nothing")) == "not-found"


def test_without_a_known_prompt_one_must_be_given(client, database, database_settings, model):
    ident = posted(client)
    complete(database, database_settings, ident)
    song = client.get(f"/v1/attributions/{ident}/influences").json()["items"][0]["song"]["id"]
    assert slug(asked(client, ident, song)) == "prompt-needed"
    made = asked(client, ident, song, prompt=PROMPT).json()
    assert (made["prompt"], made["seed"]) == (PROMPT, 0)


def test_before_the_end_there_is_nothing_to_hear(client, ended):
    ident, songs = ended
    where = asked(client, ident, songs[0]).headers["location"]
    assert slug(client.get(f"{where}/audio/baseline")) == "no-recording"
    assert slug(client.get(f"{where}/audio/loudest")) == "invalid-request"


def test_strangers_see_none_of_it(client, stranger, ended, database, database_settings):
    ident, songs = ended
    answer = asked(client, ident, songs[0])
    where = answer.headers["location"]
    forgotten.complete(database, database_settings, answer.json()["id"])
    assert slug(asked(stranger, ident, songs[0])) == "not-found"
    assert slug(stranger.get(f"/v1/attributions/{ident}/counterfactuals")) == "not-found"
    for each in (where, f"{where}/audio/baseline"):
        assert slug(stranger.get(each)) == "not-found"
    assert slug(stranger.post(f"{where}/cancel")) == "not-found"


def test_a_counterfactual_is_a_job_of_the_month(client, ended):
    ident, songs = ended
    jobs = client.get("/v1/usage").json()["months"][0]["jobs"]
    asked(client, ident, songs[0])
    asked(client, ident, songs[0])
    assert client.get("/v1/usage").json()["months"][0]["jobs"] == jobs + 1


def test_it_goes_with_its_attribution(client, ended, database):
    ident, songs = ended
    asked(client, ident, songs[0])
    with transaction(database) as session:
        session.execute(delete(Influence))
        session.execute(delete(Attribution).where(Attribution.id == ident))
    assert rows(database, Counterfactual) == 0
