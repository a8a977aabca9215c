"""The pages of rights-holders."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.access.scopes import Scope
from app.deps import Caller, caller
from app.models import DEFAULT_TENANT
from tests.app.test_pages import texts
from tests.app.world import add_found

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def holder(client, database, model):
    """Ada, who holds a part in a song that was found in two tracks of January."""
    song = client.get("/v1/songs").json()["items"][0]["id"]
    rights = [{"party": "Ada", "role": "composer", "share": 0.5}, {"party": "Label", "role": "label", "share": 1}]
    assert client.patch(f"/v1/songs/{song}", json={"rights": rights}).is_success
    add_found(database, model.id, song, [JANUARY, JANUARY])
    return client.get("/v1/holders?q=ada").json()["items"][0]["id"]


def test_holders_are_found_by_name(client, holder):
    assert "Label" in texts(client.get("/holders"))
    found = texts(client.get("/holders?q=ada"))
    assert "Ada" in found
    assert "Label" not in found
    assert "Nobody is called so" in texts(client.get("/holders?q=bo"))


def test_a_holder_is_shown_with_songs_parts_and_history(client, holder):
    told = texts(client.get(f"/holders/{holder}"))
    assert "composer 50 %" in told
    assert "Jan 2026: 2 tracks, shares 50.0 %" in told


def test_a_page_of_a_holder_shows_no_more_than_the_key_allows(app, client, holder):
    app.dependency_overrides[caller] = lambda: Caller(DEFAULT_TENANT, frozenset({Scope.CATALOGUE_READ}))
    assert "Shares over time" not in texts(client.get(f"/holders/{holder}"))


def test_a_stranger_sees_no_holder(stranger, holder):
    assert stranger.get(f"/holders/{holder}").status_code == 404
    assert "Ada" not in stranger.get("/holders").text
