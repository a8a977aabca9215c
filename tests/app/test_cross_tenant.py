"""The cross-tenant walk: every route, with other people's keys and with none, answers no byte of what is not theirs.

Two tenants have one of everything, made the same way. What is told apart, by looking at every row of the database, is
what only the first one has: its ids, names, words, digests, secrets. Then each route that the application has, pages
too, is called with the first tenant's ids in its address and body, by everybody else.

A new route that this walk does not know fails it. Then say:
- what stands for its path parameters, in `places` (`belongings.py`, which makes one of every kind for a tenant);
- what is sent to it, in `bodies` (`walking.py`), where it changes something; it must be what its owner could send.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.access import keys
from app.db import Base, reading, transaction
from app.main import create_app
from app.models import Holder, Song
from tests.app.belongings import OURS, THEIRS, Owned, belongings, words
from tests.app.here import bearer, client_of
from tests.app.walking import PARAMETER, UNSAFE, Walk, filled, sent, steps

SHORTEST = 6  # of a text that counts as somebody's own; shorter ones are in any answer


@pytest.fixture
def app(database_settings):
    """Keys are required, and a webhook may be asked for at this machine's address."""
    more = {"auth": "required", "webhook_allow_private": True}
    return create_app(database_settings.model_copy(update=more))


def rows_of(database, tenant: str) -> dict[str, list[Any]]:
    """Every row that a tenant owns, by table."""
    found = {}
    with reading(database) as session:
        for table in Base.metadata.sorted_tables:
            if "tenant_id" in table.columns:
                found[table.name] = session.execute(select(table).where(table.c.tenant_id == tenant)).mappings().all()
    return found


def texts(thing: Any) -> set[str]:
    """Every text in rows, and in what they hold as JSON."""
    if isinstance(thing, str):
        return {thing} if len(thing) >= SHORTEST else set()
    if isinstance(thing, dict) or hasattr(thing, "items"):
        return set().union(*(texts(value) for value in thing.values()), set())
    return set().union(*map(texts, thing), set()) if isinstance(thing, list | tuple) else set()


@pytest.fixture
def world(app, database, database_settings):
    ours, theirs = (belongings(app, database, database_settings, tenant) for tenant in (OURS, THEIRS))
    mine, other = rows_of(database, OURS), rows_of(database, THEIRS)
    empty = [name for name, found in mine.items() if not found and name not in NEVER_MADE]
    assert not empty, f"the first tenant owns nothing in {empty}: make one of each in `belongings`"
    return ours, theirs, texts(list(mine.values())) - texts(list(other.values())) - {OURS}


NEVER_MADE = {
    "quotas",
    "idempotency_keys",
    "builds",
    "build_pieces",
    "stated_tracks",
    "stated_disputes",
    "stated_songs",
}
"""Tables that no route shows a row of by its id."""


def test_another_tenant_is_told_nothing_anywhere(app, database, world):
    ours, theirs, secret = world
    before = rows_of(database, OURS)
    found: list[str] = []
    with client_of(app) as client:
        walk = Walk(client, ours, secret, bearer(theirs.admin))
        for step in steps(app):
            whose = set(PARAMETER.findall(step[1])) - {"month"}  # a month is nobody's
            named = whose or step[:2] == ("POST", "/v1/alerts")  # whose body names the owner's song
            found += walk.leaks(step, {404} if named else {200, 201, 202, 303, 400, 404, 409, 422})
    after = rows_of(database, OURS)
    assert found == []
    assert {name: len(found) for name, found in after.items()} == {name: len(found) for name, found in before.items()}
    assert after["songs"] == before["songs"]
    assert after["attributions"] == before["attributions"]


@pytest.mark.parametrize("who", ["their holder", "our other holder"])
def test_a_rights_holder_is_told_no_more_than_of_its_own_songs(app, database, world, who):
    ours, theirs, secret = world
    key = theirs.holder if who == "their holder" else ours.holder
    if who == "our other holder":
        secret = secret - visible_to(database, ours)
    found: list[str] = []
    with client_of(app) as client:
        walk = Walk(client, ours, secret, bearer(key))
        for step in steps(app):
            found += walk.leaks(step, {200, 303, 403, 404})
    assert found == []


def visible_to(database, ours: Owned) -> set[str]:
    """What our other holder may see: its song, its rights in it, itself, and the id of the track it was found in."""
    with reading(database) as session:
        song = session.get(Song, ours.holder_song)
        holder = session.scalars(select(Holder).where(Holder.name == f"{words(OURS)}-second")).one()
        facts = {getattr(song, column.name) for column in Song.__table__.columns if column.name != "words"}
        seen = {holder.id, holder.name, ours.places["attribution_id"], ours.places["model"]}
    return {str(fact) for fact in facts if fact is not None} | seen | {words(OURS)}


@pytest.mark.parametrize("who", ["nobody", "a revoked key", "an unknown key"])
def test_who_has_no_key_is_told_nothing_at_all(app, database, world, who):
    ours, _, secret = world
    headers: dict[str, str] = {}
    if who == "an unknown key":
        headers = bearer("rn_" + "x" * 43)
    elif who == "a revoked key":
        headers = bearer(ours.admin)
        with transaction(database) as session:
            keys.revoke(session, keys.named(session, ours.admin[: keys.SHOWN]))
    found: list[str] = []
    with client_of(app) as client:
        walk = Walk(client, ours, secret, headers)
        for step in steps(app):
            found += walk.leaks(step, {401, 303})
    assert found == []


def test_the_walk_would_notice_a_leak(app, world):
    ours, _, secret = world
    with client_of(app) as client:
        walk = Walk(client, ours, secret, bearer(ours.admin))
        seen = [each for step in steps(app) if step[0] == "GET" for each in walk.leaks(step, {200})]
    shown = "\n".join(seen)
    for word in ("-prompt", "-external", "-title-1", "-reason", "-batch", "-first"):
        assert f"{words(OURS)}{word}" in shown, word


def test_every_change_by_its_owner_is_in_the_audit_log(app, database, world):
    ours, _, _ = world
    quiet = {"/sign-in", "/sign-out", "/v1/reports/verify"}
    with client_of(app, headers=bearer(ours.admin)) as client:
        for number, (method, path, public) in enumerate(steps(app)):
            if method not in UNSAFE or public or path in quiet or method == "DELETE":
                continue
            asked = dict(sent(method, path, ours))
            headers = {"X-Request-ID": f"walk-{number}"} | asked.pop("headers", {})
            answer = client.request(method, filled(path, ours), headers=headers, follow_redirects=False, **asked)
            if answer.status_code < 400:
                with reading(database) as session:
                    table = Base.metadata.tables["audit"]
                    entries = session.execute(select(table).where(table.c.request_id == f"walk-{number}")).all()
                assert entries, f"{method} {path} changed something that the audit log does not know"
