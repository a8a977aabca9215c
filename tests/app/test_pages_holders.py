"""The pages of rights-holders and of their statements."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.access.scopes import Scope
from app.deps import Caller, caller
from app.models import DEFAULT_TENANT
from tests.app.here import HERE, client_of, make_key
from tests.app.statements import books
from tests.app.statements.books import Track, right
from tests.app.test_pages import texts

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def holder(client, database, model):
    """Ada, who holds parts in two songs that were found in two tracks of January, which is closed."""
    one = books.song(database, "one", right("Ada", "composer", 0.5), right("Label", "label", 1))
    two = books.song(database, "two", right("Ada", "performer", 0.25))
    books.add(database, model.id, [Track(JANUARY, {one: 0.5, two: 0.25}), Track(JANUARY, {one: 0.5})])
    assert client.post("/v1/statements/2026-01/close").is_success
    return next(each["id"] for each in client.get("/v1/holders?q=ada").json()["items"])


@pytest.fixture
def statement(client, holder):
    """Ada's statement of January."""
    return client.get("/v1/statements", params={"holder": holder}).json()["items"][0]["id"]


def test_holders_are_found_by_name(client, holder):
    assert "Label" in texts(client.get("/holders"))
    found = texts(client.get("/holders?q=ada"))
    assert "Ada" in found
    assert "Label" not in found
    assert "Nobody is called so" in texts(client.get("/holders?q=bo"))


def test_a_holder_is_shown_with_songs_parts_history_and_statements(client, holder, statement):
    shown = client.get(f"/holders/{holder}")
    told = texts(shown)
    assert "composer 50 %" in told
    assert "performer 25 %" in told
    assert "Jan 2026: 2 tracks, shares 125.0 %" in told
    assert f'href="/statements/{statement}"' in shown.text
    assert "January 2026 0.0625 0.5000" in told


def test_a_statement_is_shown_line_by_line(client, statement):
    told = texts(client.get(f"/statements/{statement}"))
    assert "January 2026 Ada" in told
    assert "performer 25 % 1 0.0625" in told
    assert "composer 50 % 2 0.5000" in told


def test_a_page_of_a_holder_shows_no_more_than_the_key_allows(app, client, holder, statement):
    app.dependency_overrides[caller] = lambda: Caller(DEFAULT_TENANT, frozenset({Scope.CATALOGUE_READ}))
    told = texts(client.get(f"/holders/{holder}"))
    assert "Shares over time" not in told
    assert "January" not in told
    assert client.get(f"/statements/{statement}").status_code == 403


def test_a_holder_signs_in_and_sees_its_own_page_alone(app, database, client, holder, statement):
    others = {each["name"]: each["id"] for each in client.get("/v1/holders").json()["items"]}
    secret = make_key(database, DEFAULT_TENANT, holder_id=holder)
    with client_of(app) as browser:
        led = browser.post("/sign-in", data={"key": secret}, headers={"Origin": HERE}, follow_redirects=False)
        assert led.headers["location"] == f"/holders/{holder}"
        shown = browser.get(f"/holders/{holder}")
        told = texts(shown)
        assert "performer 25 %" in told
        assert "Jan 2026: 2 tracks, shares 125.0 %" in told
        assert f'href="/statements/{statement}"' in shown.text
        assert "Label" not in shown.text
        assert 'href="/songs/' not in shown.text
        assert browser.get(f"/holders/{others['Label']}").status_code == 404
        assert browser.get("/holders").status_code == 403


def test_a_stranger_sees_neither_holder_nor_statement(stranger, holder, statement):
    for address in (f"/holders/{holder}", f"/statements/{statement}"):
        assert stranger.get(address).status_code == 404
    assert "Ada" not in stranger.get("/holders").text
