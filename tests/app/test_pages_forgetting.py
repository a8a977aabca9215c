"""Songs forgotten from a report."""

from __future__ import annotations

import pytest

from tests.app import forgotten
from tests.app.test_attributions_api import posted
from tests.app.test_pages import texts
from tests.app.world import complete


@pytest.fixture
def ended(client, database, database_settings, model):
    """An attribution that has ended, and the id of its first song."""
    ident = posted(client, prompt="slow piano", seed=7)
    complete(database, database_settings, ident)
    return ident, client.get(f"/v1/attributions/{ident}/influences").json()["items"][0]["song"]["id"]


def test_a_song_is_forgotten_from_the_report(client, ended, database, database_settings):
    ident, song = ended
    waiting = client.post(f"/attributions/{ident}/counterfactuals", data={"song_id": song, "seed": "", "prompt": ""})
    assert "data-waiting" in waiting.text
    (made,) = client.get(f"/v1/attributions/{ident}/counterfactuals").json()["items"]
    assert (made["song"]["id"], made["prompt"], made["seed"]) == (song, "slow piano", 7)
    forgotten.complete(database, database_settings, made["id"])
    report = client.get(f"/attributions/{ident}")
    told = texts(report)
    assert "0.0500 0.0400 to 0.0600" in told or "0.05 0.04 to 0.06" in told
    assert "of the same artist" in told
    for take in ("baseline", "forgotten", "control"):
        assert f'src="/v1/counterfactuals/{made["id"]}/audio/{take}"' in report.text
    assert "data-waiting" not in report.text


def test_what_cannot_be_forgotten_is_said(client, ended):
    ident, _ = ended
    answer = client.post(f"/attributions/{ident}/counterfactuals", data={"song_id": "nothing"})
    assert (answer.status_code, "This song is not in the catalogue" in texts(answer)) == (422, True)


def test_a_stranger_forgets_nothing(client, stranger, ended):
    ident, song = ended
    assert stranger.post(f"/attributions/{ident}/counterfactuals", data={"song_id": song}).status_code == 404
    assert client.get(f"/v1/attributions/{ident}/counterfactuals").json()["items"] == []
