"""Signing in to the pages: a session that names a key, ends with it, and obeys our own pages alone."""

from __future__ import annotations

import stat

import pytest

from app.access import gate, keys, sessions
from app.access.scopes import Scope
from app.config import Settings
from app.db import transaction
from app.models import DEFAULT_TENANT
from tests.app.here import HERE, bearer, client_of, make_key

OWN = {"Origin": HERE}
SONG = {"title": "t", "artist": "a"}


def sign_in(client, secret, **more):
    return client.post("/sign-in", data={"key": secret} | more, headers=OWN, follow_redirects=False)


def kind(answer):
    return answer.json()["type"].removeprefix("urn:rootnote:problem:")


@pytest.fixture
def browser(app):
    with client_of(app) as client:
        yield client


@pytest.fixture
def secret(database):
    return make_key(database, DEFAULT_TENANT)


def test_a_session_does_what_its_key_may(browser, database):
    reader = make_key(database, DEFAULT_TENANT, Scope.CATALOGUE_READ)
    assert sign_in(browser, reader).status_code == 303
    assert browser.get("/v1/songs").status_code == 200
    assert kind(browser.post("/v1/songs", json=SONG, headers=OWN)) == "insufficient-scope"


def test_the_cookie_is_for_the_browser_alone_and_is_not_the_key(browser, secret):
    cookie = sign_in(browser, secret).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert secret not in cookie


@pytest.mark.parametrize("how", ["scheme", "proxy"])
def test_under_https_the_cookie_is_secure(app, secret, how):
    url = HERE.replace("http", "https") if how == "scheme" else HERE
    headers = {"Origin": url} | ({"X-Forwarded-Proto": "https"} if how == "proxy" else {})
    with client_of(app, url=url) as client:
        answer = client.post("/sign-in", data={"key": secret}, headers=headers, follow_redirects=False)
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}])
def test_a_page_of_another_site_changes_nothing_with_a_session(browser, secret, origin):
    sign_in(browser, secret)
    assert browser.get("/v1/songs", headers=origin).status_code == 200
    assert kind(browser.post("/v1/songs", json=SONG, headers=origin)) == "foreign-origin"
    assert browser.post("/sign-out", headers=origin).status_code == 403
    assert browser.post("/sign-in", data={"key": secret}, headers=origin).status_code == 403
    assert browser.post("/v1/songs", json=SONG, headers=OWN).status_code == 201


def test_a_key_that_is_shown_needs_no_origin_and_goes_before_the_session(browser, database, secret):
    sign_in(browser, secret)
    other = make_key(database, DEFAULT_TENANT, Scope.CATALOGUE_READ)
    assert kind(browser.post("/v1/songs", json=SONG, headers=bearer(other))) == "insufficient-scope"
    assert browser.post("/v1/songs", json=SONG, headers=bearer(secret)).status_code == 201


def test_a_session_ends_with_its_key(app, database, secret, settings):
    ticks = [0.0]
    with client_of(app) as browser:
        app.state.gate._ticks = lambda: ticks[0]
        sign_in(browser, secret)
        assert browser.get("/v1/songs").status_code == 200
        with transaction(database) as session:
            keys.revoke(session, keys.named(session, secret[: keys.SHOWN]))
        ticks[0] += gate.REMEMBERED_SECONDS
        assert kind(browser.get("/v1/songs")) == "invalid-key"


def test_signing_out_ends_it_in_this_browser(browser, secret):
    sign_in(browser, secret)
    assert browser.post("/sign-out", headers=OWN, follow_redirects=False).status_code == 303
    assert kind(browser.get("/v1/songs")) == "needs-key"


@pytest.mark.parametrize("secret", ["rn_nothing", "", " "])
def test_what_is_no_key_signs_nobody_in(browser, database, secret):
    make_key(database, DEFAULT_TENANT)
    answer = sign_in(browser, secret)
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("wanted", "location"),
    [
        ("/songs?q=a", "/songs?q=a"),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example", "/"),
        ("/\\elsewhere.example", "/"),
        ("/a\r\nSet-Cookie: b=c", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_signing_in_leads_on_within_the_service_alone(browser, secret, wanted, location):
    assert sign_in(browser, secret, next=wanted).headers["location"] == location


def test_a_session_is_good_until_its_end_and_only_as_it_was_signed(clock):
    session = sessions.sign("key-id", clock() + sessions.LASTING, b"secret")
    assert sessions.read(session, clock(), b"secret") == "key-id"
    assert sessions.read(session, clock(), b"other") is None
    for forged in ("", ".", "..", session[:-1], "x" + session, session.replace("key-id", "another"), "a.b.c"):
        assert sessions.read(forged, clock(), b"secret") is None
    assert sessions.read(session, clock() + sessions.LASTING, b"secret") is None


def test_the_secret_is_made_once_and_is_its_owner_s_alone(settings):
    first = sessions.secret(settings)
    assert sessions.secret(settings) == first
    (file,) = (settings.data_dir / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(first) == 32
    assert sessions.secret(Settings(data_dir=settings.data_dir, session_secret="shared")) == b"shared"  # noqa: S106
