"""Who is let in: by a key, or, while nobody has made one, this machine alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import select

from app import declared
from app.access import gate, keys
from app.access.keys import NewKey
from app.access.scopes import EVERYDAY, Scope
from app.db import reading, transaction
from app.errors import Conflict, InvalidRequest, NotFound
from app.main import create_app
from app.models import DEFAULT_TENANT, ApiKey
from tests.app.here import bearer, client_of, make_key

SONGS = "/v1/songs"
CASES = [
    ("203.0.113.9", "http://127.0.0.1:8000", {}, "needs-key"),
    ("127.0.0.1", "http://rebound.example:8000", {}, "foreign-host"),
    ("127.0.0.1", "http://127.0.0.1:8000", {"Origin": "https://elsewhere.example"}, "foreign-origin"),
    ("127.0.0.1", "http://127.0.0.1:8000", {"Origin": "null"}, "foreign-origin"),
    ("127.0.0.1", "http://127.0.0.1:8000", {"X-Forwarded-For": "127.0.0.1"}, "needs-key"),
    ("127.0.0.1", "http://127.0.0.1:8000", {"Authorization": "Basic YTpi"}, "invalid-key"),
    ("127.0.0.1", "http://127.0.0.1:8000", bearer("rn_no-such-key"), "invalid-key"),
]
OPEN = [
    ("127.0.0.1", "http://127.0.0.1:8000"),
    ("127.4.5.6", "http://localhost:8000"),
    ("::1", "http://[::1]:8000"),
    ("::ffff:127.0.0.1", "http://localhost"),
]


def kind(answer):
    return answer.json()["type"].removeprefix("urn:rootnote:problem:")


@pytest.mark.parametrize(("peer", "url"), OPEN)
def test_without_any_key_this_machine_needs_none(app, peer, url):
    with client_of(app, peer=peer, url=url) as client:
        assert client.get(SONGS).status_code == 200
        assert client.get(SONGS, headers={"Origin": url}).status_code == 200


@pytest.mark.parametrize(("peer", "url", "headers", "refusal"), CASES)
def test_whoever_else_calls_is_refused(app, peer, url, headers, refusal):
    with client_of(app, peer=peer, url=url) as client:
        answer = client.get(SONGS, headers=headers)
    assert kind(answer) == refusal
    assert answer.headers.get("WWW-Authenticate", "").startswith("Bearer") == (answer.status_code == 401)


def test_where_keys_are_required_this_machine_needs_one_too(database_settings):
    with client_of(create_app(database_settings.model_copy(update={"auth": "required"}))) as client:
        assert kind(client.get(SONGS)) == "needs-key"
        assert client.get("/healthz").status_code == 200


def test_the_first_key_closes_the_door_for_good(app, database):
    with client_of(app) as client:
        secret = make_key(database, DEFAULT_TENANT)
        assert kind(client.get(SONGS)) == "needs-key"
        assert client.get(SONGS, headers=bearer(secret)).status_code == 200
        with transaction(database) as session:
            keys.revoke(session, keys.named(session, secret[: keys.SHOWN]))
        assert kind(client.get(SONGS)) == "needs-key"


def test_a_key_is_good_for_its_scopes_alone(app, database):
    reader = make_key(database, DEFAULT_TENANT, Scope.CATALOGUE_READ)
    admin = make_key(database, DEFAULT_TENANT, Scope.ADMIN)
    with client_of(app) as client:
        assert client.get(SONGS, headers=bearer(reader)).status_code == 200
        refused = client.post(SONGS, json={"title": "t", "artist": "a"}, headers=bearer(reader))
        assert (refused.status_code, kind(refused)) == (403, "insufficient-scope")
        assert 'scope="catalogue:write"' in refused.headers["WWW-Authenticate"]
        assert client.post(SONGS, json={"title": "t", "artist": "a"}, headers=bearer(admin)).status_code == 201


def test_a_revoked_or_expired_key_is_refused_as_soon_as_it_is_no_longer_remembered(database, settings):
    ticks = [0.0]
    door = gate.Gate(database, settings, ticks=lambda: ticks[0])
    knocks = {}
    for name in ("revoked", "expired"):
        end = database.clock() + timedelta(seconds=3600) if name == "expired" else None
        knocks[name] = gate.Knock("203.0.113.9", "h", f"Bearer {make_key(database, DEFAULT_TENANT, expires_at=end)}")
        assert door.caller(knocks[name]).tenant_id == DEFAULT_TENANT
    with transaction(database) as session:
        for key in session.scalars(select(ApiKey)).all():
            if key.expires_at is None:
                keys.revoke(session, key)
            else:
                key.expires_at = database.clock()
    ticks[0] += gate.REMEMBERED_SECONDS
    for knock in knocks.values():
        assert door.remembered(knock) is None
        with pytest.raises(gate.InvalidKey):
            door.caller(knock)


def test_a_remembered_key_still_expires_on_time(db, clock, settings):
    door = gate.Gate(db, settings, ticks=lambda: 0.0)
    end = clock() + timedelta(seconds=60)
    knock = gate.Knock("203.0.113.9", "h", f"bearer {make_key(db, DEFAULT_TENANT, expires_at=end)}")
    assert door.caller(knock)
    assert door.remembered(knock)
    clock.forward(60)
    assert door.remembered(knock) is None


def test_use_is_noted_at_most_once_a_minute(db, clock, settings):
    ticks = [0.0]
    door = gate.Gate(db, settings, ticks=lambda: ticks[0])
    knock = gate.Knock("203.0.113.9", "h", f"Bearer {make_key(db, DEFAULT_TENANT)}")
    noted = []
    for _ in range(4):
        door.caller(knock)
        with reading(db) as session:
            noted.append(session.scalar(select(ApiKey.last_used_at)))
        clock.forward(30)
        ticks[0] += gate.REMEMBERED_SECONDS
    assert noted[0] == noted[1] < noted[2] == noted[3]


def test_the_secret_is_not_stored(database):
    secret = make_key(database, DEFAULT_TENANT)
    with reading(database) as session:
        (key,) = keys.listed(session)
    stored = [str(getattr(key, column.name)) for column in ApiKey.__table__.columns]
    assert not [value for value in stored if secret in value]
    assert key.digest == keys.digest_of(secret)
    assert len(secret) == len(keys.SIGN) + 43


def test_a_rotated_key_is_good_for_a_while_beside_the_new_one(db, clock):
    first = make_key(db, DEFAULT_TENANT, Scope.CATALOGUE_READ, expires_at=clock() + timedelta(days=90))
    clock.forward(86_400)
    with transaction(db) as session:
        old = keys.named(session, first[: keys.SHOWN])
        new, second = keys.rotate(session, old, timedelta(hours=1))
    assert first != second
    assert (new.scopes, new.name, new.tenant_id) == (old.scopes, old.name, old.tenant_id)
    assert new.expires_at == clock() + timedelta(days=90)
    assert keys.is_live(old, clock())
    clock.forward(3600)
    assert not keys.is_live(old, clock())
    assert keys.is_live(new, clock())
    with transaction(db) as session, pytest.raises(Conflict):
        keys.rotate(session, keys.named(session, old.id), timedelta(hours=1))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (NewKey("nobody", "n"), NotFound),
        (NewKey(DEFAULT_TENANT, "n", frozenset({Scope.HOLDER_READ})), InvalidRequest),
        (NewKey(DEFAULT_TENANT, "n", frozenset()), InvalidRequest),
        (NewKey(DEFAULT_TENANT, "n", frozenset({Scope.ADMIN}), "holder"), InvalidRequest),
    ],
)
def test_no_key_is_made_for_more_than_its_owner_may(database, wanted, error):
    with transaction(database) as session, pytest.raises(error):
        keys.create(session, wanted)


def test_a_key_without_named_scopes_is_for_everyday(database):
    make_key(database, DEFAULT_TENANT)
    with reading(database) as session:
        assert keys.listed(session)[0].scopes == sorted(EVERYDAY)


def test_every_route_declares_who_may_call_it(settings):
    routes = {path: scopes for path, _, scopes in declared.declarations(create_app(settings).routes)}
    public = {path for path, scopes in routes.items() if not scopes}
    assert {path for path in public if path.startswith("/v1")} == set()
    assert {"/healthz", "/readyz", "/metrics"} <= public


def test_a_route_that_declares_nothing_is_not_served():
    router = APIRouter(prefix="/v1/things")

    @router.get("")
    def things() -> str:
        return "things"

    app = FastAPI()
    app.include_router(router)
    with pytest.raises(declared.Undeclared, match="/v1/things"):
        declared.check(app.routes)


def test_the_document_says_which_scope_each_call_needs(settings):
    document = create_app(settings).openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert ("security" in operation) == path.startswith("/v1")
            assert ({"401", "403"} <= set(operation["responses"])) == path.startswith("/v1")
