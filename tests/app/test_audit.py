"""The audit log: a change and its entry are one, refusals are written down, and nothing is ever changed in it."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.access import audit, keys
from app.access.audit import Deed, Refusals
from app.access.scopes import Scope
from app.acting import Acting
from app.db import reading, transaction
from app.models import DEFAULT_TENANT, AuditEntry, Quota, Song
from tests.app.here import bearer, client_of, make_key

SONG = {"title": "t", "artist": "a"}
AUDIT = "/v1/audit"


def entries(database):
    with reading(database) as session:
        return session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()


def test_a_change_names_who_what_which_and_when(app, database):
    secret = make_key(database, DEFAULT_TENANT)
    with client_of(app) as client:
        made = client.post("/v1/songs", json=SONG, headers=bearer(secret) | {"X-Request-ID": "mine"}).json()
        client.patch(f"/v1/songs/{made['id']}", json={"title": "u"}, headers=bearer(secret))
        client.get(f"/v1/songs/{made['id']}", headers=bearer(secret))
    with reading(database) as session:
        key = keys.named(session, secret[: keys.SHOWN])
    first, second = entries(database)
    assert (first.action, first.object_kind, first.object_id) == ("createSong", "songs", made["id"])
    assert (first.key_id, first.actor, first.request_id, first.outcome) == (key.id, "key", "mine", "done")
    assert first.details["made"] == {"songs": 1, "song_policies": 1}
    assert (second.action, second.object_id, second.outcome) == ("changeSong", made["id"], "done")


def test_what_failed_leaves_no_entry(client, database):
    client.post("/v1/songs", json=SONG | {"key": "k"})
    assert client.post("/v1/songs", json=SONG | {"key": "k"}).status_code == 409
    assert [entry.action for entry in entries(database)] == ["createSong"]


def test_without_its_entry_nothing_is_changed(database):
    def broken(_: object) -> None:
        raise KeyError

    broken_witness = database.on_behalf_of(Acting(role=None, witness=broken))
    with pytest.raises(KeyError), transaction(broken_witness) as session:
        session.add(Song(tenant_id=DEFAULT_TENANT, key="k", title="t", artist="a"))
    with reading(database) as session:
        assert session.scalar(select(func.count()).select_from(Song)) == 0


def test_refusals_are_written_down_once_a_minute(app, database):
    reader = make_key(database, DEFAULT_TENANT, Scope.CATALOGUE_READ)
    with client_of(app) as client:
        for _ in range(3):
            assert client.post("/v1/songs", json=SONG, headers=bearer(reader)).status_code == 403
        assert client.get("/v1/usage", headers=bearer(reader)).status_code == 403
        with transaction(database) as session:
            keys.revoke(session, keys.named(session, reader[: keys.SHOWN]))
        app.state.gate._known.clear()
        assert client.get("/v1/songs", headers=bearer(reader)).status_code == 401
    found = [(entry.action, entry.outcome, entry.details["type"]) for entry in entries(database)]
    assert found == [
        ("createSong", "denied", "insufficient-scope"),
        ("getUsage", "denied", "insufficient-scope"),
        ("listSongs", "denied", "invalid-key"),
    ]


def test_a_refusal_is_written_down_again_after_a_minute(database):
    ticks = [0.0]
    refusals = Refusals(database, ticks=lambda: ticks[0])
    for _ in range(3):
        refusals.write(Deed(DEFAULT_TENANT, "key", "a"), "insufficient-scope")
        ticks[0] += 30
    assert len(entries(database)) == 2


def test_counting_requests_is_no_deed(client, database):
    with transaction(database) as session:
        session.add(Quota(tenant_id=DEFAULT_TENANT, requests_per_minute=100, requests=0))
    client.post("/v1/songs", json=SONG)
    assert [entry.action for entry in entries(database)] == ["createSong"]


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'me'", "DELETE FROM audit", "TRUNCATE audit"])
def test_the_log_only_grows_even_for_the_owner_of_the_table(database, statement):
    with transaction(database.on_behalf_of(audit.by_command(DEFAULT_TENANT, "a"))):
        pass
    if statement.startswith("TRUNCATE") and database.write.dialect.name == "sqlite":
        return  # SQLite has no such statement
    with pytest.raises(DBAPIError), transaction(database) as session:
        session.execute(text(statement))
    assert len(entries(database)) == 1


def test_the_log_is_read_by_cursor_and_filter_by_admins_alone(app, database, clock):
    admin, reader = make_key(database, DEFAULT_TENANT, Scope.ADMIN), make_key(database, DEFAULT_TENANT)
    with client_of(app) as client:
        idents = [client.post("/v1/songs", json=SONG, headers=bearer(admin)).json()["id"] for _ in range(3)]
        client.patch(f"/v1/songs/{idents[0]}", json={"title": "u"}, headers=bearer(admin))
        assert client.get(AUDIT, headers=bearer(reader)).status_code == 403

        def ask(**query):
            return client.get(AUDIT, params=query, headers=bearer(admin)).json()

        first = ask(limit=2)
        rest = ask(cursor=first["next_cursor"])
        seen = [item["id"] for item in first["items"] + rest["items"]]
        assert seen == sorted(seen, reverse=True)
        assert len(seen) == 5
        assert [item["action"] for item in ask(object=idents[0])["items"]] == ["changeSong", "createSong"]
        assert [item["action"] for item in ask(outcome="denied")["items"]] == ["listAudit"]
        assert len(ask(action="createSong")["items"]) == 3
        assert len(ask(key=first["items"][1]["key_id"])["items"]) == 4
        assert ask(**{"from": "2999-01-01T00:00:00Z"})["items"] == []
        assert len(ask(to="2999-01-01T00:00:00Z")["items"]) == 5
        assert client.get(AUDIT, params={"cursor": "x"}, headers=bearer(admin)).status_code == 400


def test_commands_are_written_down(database):
    with transaction(database.on_behalf_of(audit.by_command(DEFAULT_TENANT, "tenants create", "label-a"))) as session:
        keys.create_tenant(session, "label-a", "Label A")
    (entry,) = entries(database)
    assert (entry.action, entry.object_id, entry.key_id) == ("tenants create", "label-a", None)
    assert entry.actor.startswith("command, uid ")
