"""`Prefer: wait=N`: a wait ends with the attribution, is bounded, and holds nobody up."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest

from app.attributions.waiting import preferred_wait
from tests.app.here import HERE
from tests.app.sounds import Sound
from tests.app.world import complete

URL = "/v1/attributions"
TRACK = Sound().encode()
WAIT = {"Prefer": "wait=3"}


def post(client, audio=TRACK, headers=None, name="track.wav", **fields):
    return client.post(URL, files={"audio": (name, audio)}, data=fields, headers=headers)


def posted(client, **fields):
    answer = post(client, **fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=7", 7),
        ("respond-async, Wait = 7", 7),
        ("wait=999", 60),
        ("wait=-1", 0),
        ("await=5", 0),
    ],
)
def test_a_wait_is_read_from_prefer_and_bounded(prefer, seconds):
    assert preferred_wait(prefer) == seconds


def test_a_wait_ends_with_the_attribution_and_the_answer_is_still_202(client, model, database, settings):
    def work():
        while not (waiting := client.get(URL).json()["items"]):
            time.sleep(0.02)
        complete(database, settings, waiting[0]["id"])

    worker = threading.Thread(target=work)
    worker.start()
    began = time.monotonic()
    answer = post(client, headers={"Prefer": "wait=30"})
    worker.join()
    assert time.monotonic() - began < 15
    assert (answer.status_code, answer.json()["status"]) == (202, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"


def test_a_wait_that_runs_out_shows_how_it_stands(client, model):
    answer = post(client, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_many_waits_hold_nobody_up(app, client, model):
    ident = posted(client)

    async def crowd():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=HERE, timeout=30) as many:
            waits = []
            for _ in range(5):  # more at one moment than are served at once would be told to come back
                waits += [asyncio.create_task(many.get(f"{URL}/{ident}", headers=WAIT)) for _ in range(20)]
                await asyncio.sleep(0.2)
            began = time.monotonic()
            answer = await many.get("/v1/models")
            taken = time.monotonic() - began
            return answer.status_code, taken, [each.status_code for each in await asyncio.gather(*waits)]

    status, taken, waited = asyncio.run(crowd())
    assert status == 200
    assert taken < 1.5
    assert waited == [200] * 100
