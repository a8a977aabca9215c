"""The cross-tenant walk: every route, with other people's keys and with none, answers no byte of what is not theirs.

Two tenants have one of everything, made the same way. What is told apart, by looking at every row of the database, is
what only the first one has: its ids, names, words, digests, secrets. Then each route that the application has, pages
too, is called with the first tenant's ids in its address and body, by everybody else.

A new route that this walk does not know fails it. Then say here:
- what stands for its path parameters, in `PLACES` (made by `belongings`, for a tenant with one of every kind);
- what is sent to it, in `BODIES`, where it changes something; it must be what its owner could send.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from app import declared
from app.access import keys
from app.access.scopes import Scope
from app.catalogue.registry import register_model
from app.db import Base, reading, transaction
from app.main import create_app
from app.models import (
    DEFAULT_TENANT,
    Attribution,
    Closing,
    ClosingTotal,
    Event,
    Holder,
    Side,
    Song,
    Statement,
    StatementLine,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
)
from tests.app.here import bearer, client_of, make_key
from tests.app.sounds import Sound
from tests.app.world import complete, model_folder

OURS, THEIRS = DEFAULT_TENANT, "tenant-b"
MONTH = "2026-01"
PARAMETER = re.compile(r"{(\w+)}")
SHORTEST = 6  # of a text that counts as somebody's own; shorter ones are in any answer
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
ANOTHER = Sound(seconds=1.5).encode()
"""What callers send; were it the owner's own track, they would be told its digest."""


@dataclass(frozen=True)
class Owned:
    """What a tenant has: values for path parameters, a track of its own, and the keys of its holders."""

    places: dict[str, str]
    track: bytes
    sha256: str
    report: bytes
    admin: str
    holder: str
    holder_song: str


@pytest.fixture
def app(database_settings):
    """Keys are required, and a webhook may be asked for at this machine's address."""
    more = {"auth": "required", "webhook_allow_private": True}
    return create_app(database_settings.model_copy(update=more))


def words(tenant: str) -> str:
    return "aurora" if tenant == OURS else "breeze"


def belongings(app, database, settings, tenant: str) -> Owned:
    """Make one of everything for a tenant, through the interface wherever it can be."""
    mark, folder = words(tenant), settings.data_dir / tenant
    folder.mkdir()
    with transaction(database) as session:
        if tenant != OURS:
            keys.create_tenant(session, tenant, f"{mark}-tenant")
        letter = "b" if tenant == OURS else "e"
        register_model(session, tenant, model_folder(folder, name="starter", index=letter))
    admin = make_key(database, tenant, Scope.ADMIN, name=f"{mark}-admin")
    track = Sound(seconds=2.0 if tenant == OURS else 2.5).encode()
    with client_of(app, headers=bearer(admin)) as client:
        ident = _track(client, database, settings, mark, track)
        found = client.get(f"/v1/attributions/{ident}/influences").json()["items"]
        songs = [item["song"]["id"] for item in found]
        _songs(client, mark, songs, track)
        dispute = client.post(
            f"/v1/attributions/{ident}/disputes",
            json={"song_id": songs[0], "by": f"{mark}-objector", "reason": f"{mark}-reason"},
        ).json()["id"]
        counterfactual = client.post(
            f"/v1/attributions/{ident}/counterfactuals", json={"song_id": songs[0], "prompt": f"{mark}-prompt-2"}
        ).json()["id"]
        alert = client.post("/v1/alerts", json={"song_id": songs[0], "threshold": 0.9}).json()["id"]
        report = client.get(f"/v1/attributions/{ident}/report").content
        sha256 = client.get(f"/v1/attributions/{ident}").json()["audio"]["sha256"]
    endpoint = _endpoint(database, tenant, mark)
    with reading(database) as session:
        holders = dict(session.execute(select(Holder.name, Holder.id).where(Holder.tenant_id == tenant)).all())
        model = session.scalars(select(Attribution.model_id).where(Attribution.id == ident)).one()
    stranger = make_key(database, tenant, holder_id=holders[f"{mark}-second"], name=f"{mark}-holder-key")
    places = {
        "attribution_id": ident,
        "song_id": songs[0],
        "dispute_id": dispute,
        "counterfactual_id": counterfactual,
        "take": "control",
        "batch": f"{mark}-batch",
        "holder_id": holders[f"{mark}-first"],
        "model": model,
        "endpoint_id": endpoint,
        "alert_id": alert,
        "statement_id": _statement(database, tenant, mark, holders[f"{mark}-first"], songs[0]),
        "month": MONTH,
    }
    return Owned(places, track, sha256, report, admin, stranger, songs[4])


def _track(client, database, settings, mark: str, track: bytes) -> str:
    items = json.dumps([{"custom_id": f"{mark}-item", "file": "one", "prompt": f"{mark}-prompt"}])
    form = {"batch": f"{mark}-batch", "items": items}
    sent = client.post("/v1/batches", data=form, files={"one": (f"{mark}-file.wav", track)}).json()
    ident = sent["items"][0]["attribution_id"]
    with transaction(database) as session:
        session.get(Attribution, ident).external_id = f"{mark}-external"
    complete(database, settings, ident)
    return str(ident)


def _songs(client, mark: str, songs: list[str], track: bytes) -> None:
    for place, song in enumerate(songs):
        party = {0: "first", 4: "second"}.get(place, "third")
        rights = [{"party": f"{mark}-{party}", "role": "composer", "share": 1}]
        facts = {"title": f"{mark}-title-{place}", "artist": f"{mark}-artist-{place}", "rights": rights}
        assert client.patch(f"/v1/songs/{song}", json=facts).status_code == 200
    assert client.put(f"/v1/songs/{songs[0]}/audio", content=track).status_code == 200


def _endpoint(database, tenant: str, mark: str) -> str:
    with transaction(database) as session:
        endpoint = WebhookEndpoint(tenant_id=tenant, url=f"https://{mark}.example/hook", events=[])
        event = Event(tenant_id=tenant, type="attribution.succeeded", data={"word": f"{mark}-event"})
        session.add_all([endpoint, event])
        session.flush()
        secret = {"secret": f"whsec_{mark}", "endpoint_id": endpoint.id}
        session.add(WebhookSecret(tenant_id=tenant, **secret))
        session.add(WebhookDelivery(tenant_id=tenant, endpoint_id=endpoint.id, event_id=event.id, attempts=[]))
        return endpoint.id


def _statement(database, tenant: str, mark: str, holder: str, song: str) -> str:
    with transaction(database) as session:
        closing = Closing(tenant_id=tenant, month=MONTH)
        session.add(closing)
        session.flush()
        mine = {"tenant_id": tenant, "closing_id": closing.id, "month": MONTH}
        session.add(ClosingTotal(**mine, tracks=1, attributed=1, recordings=1, works=0))
        statement = Statement(**mine, holder_id=holder, name=f"{mark}-first", recordings=1, works=0, lines=1)
        stated = {"side": Side.RECORDING, "role": "composer", "title": f"{mark}-stated", "artist": f"{mark}-artist-0"}
        amounts = {"parts": 1, "tracks": 1, "amount": 1}
        session.add_all(
            [statement, StatementLine(**mine, holder_id=holder, place=1, song_id=song, **stated, **amounts)]
        )
        session.flush()
        return statement.id


def bodies(owned: Owned) -> dict[tuple[str, str], dict[str, Any]]:
    """What the owner could send to each route that changes something."""
    track = {"files": {"audio": ("t.wav", ANOTHER)}}
    batch = json.dumps([{"custom_id": "x", "sha256": owned.sha256}])
    song = owned.places["song_id"]
    dispute = {"song_id": song, "by": "someone", "reason": "because"}
    review = {"outcome": "rejected", "by": "someone", "note": "because"}
    address = {"url": "http://127.0.0.1:9/hook"}
    return {
        ("POST", "/v1/attributions"): track,
        ("POST", "/v1/attributions/{attribution_id}/cancel"): {},
        ("POST", "/v1/attributions/{attribution_id}/reattribute"): {},
        ("DELETE", "/v1/attributions/{attribution_id}/audio"): {},
        ("POST", "/v1/attributions/{attribution_id}/disputes"): {"json": dispute},
        ("POST", "/v1/attributions/{attribution_id}/disputes/{dispute_id}/resolve"): {"json": review},
        ("POST", "/v1/attributions/{attribution_id}/counterfactuals"): {"json": {"song_id": song}},
        ("POST", "/v1/counterfactuals/{counterfactual_id}/cancel"): {},
        ("POST", "/v1/batches"): {"data": {"batch": owned.places["batch"], "items": batch}, "files": {"x": b""}},
        ("POST", "/v1/songs"): {"json": {"title": "mine", "artist": "me"}},
        ("POST", "/v1/songs/import"): {
            "content": b"key,title,artist\nsong-0,mine,me\n",
            "headers": {"Content-Type": "text/csv"},
        },
        ("PATCH", "/v1/songs/{song_id}"): {"json": {"title": "mine"}},
        ("PUT", "/v1/songs/{song_id}/audio"): {"content": ANOTHER},
        ("DELETE", "/v1/songs/{song_id}/audio"): {},
        ("POST", "/v1/reports/verify"): {"content": owned.report},
        ("POST", "/v1/alerts"): {"json": {"song_id": song, "threshold": 0.5}},
        ("DELETE", "/v1/alerts/{alert_id}"): {},
        ("POST", "/v1/webhook-endpoints"): {"json": address},
        ("PATCH", "/v1/webhook-endpoints/{endpoint_id}"): {"json": {"description": "mine"}},
        ("DELETE", "/v1/webhook-endpoints/{endpoint_id}"): {},
        ("POST", "/v1/webhook-endpoints/{endpoint_id}/secret"): {"json": {}},
        ("POST", "/v1/webhook-endpoints/{endpoint_id}/test"): {},
        ("POST", "/v1/webhook-endpoints/{endpoint_id}/replay"): {"json": {"since": "2026-01-01T00:00:00Z"}},
        ("POST", "/v1/statements/{month}/close"): {},
        ("POST", "/"): track,
        ("POST", "/attributions/{attribution_id}/cancel"): {},
        ("POST", "/attributions/{attribution_id}/counterfactuals"): {"data": {"song_id": song}},
        ("POST", "/attributions/{attribution_id}/disputes"): {"data": dispute},
        ("POST", "/attributions/{attribution_id}/disputes/{dispute_id}/resolve"): {"data": review},
        ("POST", "/sign-in"): {"data": {"key": "rn_" + "x" * 43}},
        ("POST", "/sign-out"): {},
    }


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


def steps(app) -> list[tuple[str, str, bool]]:
    """Method and path of every route, and whether it is for everybody."""
    found = [
        (method, path, not scopes)
        for path, methods, scopes in declared.declarations(app.routes)
        for method in sorted(methods - {"HEAD"})
    ]
    assert len(found) > 50
    return found


def filled(path: str, owned: Owned) -> str:
    missing = [name for name in PARAMETER.findall(path) if name not in owned.places]
    assert not missing, (
        f"{path}: the cross-tenant walk has no {missing}. Make one in `belongings` and name it in `places` "
        "(tests/app/test_cross_tenant.py), so that it is known that nobody else sees it."
    )
    return PARAMETER.sub(lambda found: owned.places[found.group(1)], path)


def sent(method: str, path: str, owned: Owned) -> dict[str, Any]:
    known = bodies(owned)
    assert method not in UNSAFE or (method, path) in known, (
        f"{method} {path}: the cross-tenant walk does not know what its owner would send. Say so in `bodies` "
        "(tests/app/test_cross_tenant.py), so that it is known that nobody else can."
    )
    return known.get((method, path), {})


@dataclass
class Walk:
    """Calls every route as somebody, and notes what should not have been answered."""

    client: Any
    owned: Owned
    secret: set[str]
    headers: dict[str, str]

    def leaks(self, step: tuple[str, str, bool], allowed: set[int]) -> list[str]:
        """What one route answered that it should not have: a status, or words of the owner's."""
        method, path, public = step
        address, asked = filled(path, self.owned), dict(sent(method, path, self.owned))
        headers = self.headers | asked.pop("headers", {})
        answer = self.client.request(method, address, headers=headers, follow_redirects=False, **asked)
        told = repr((address, {name: value for name, value in asked.items() if name != "files"}))
        shown = answer.text + repr(dict(answer.headers))
        found = [word for word in self.secret if word in shown and word not in told]
        wrong = [] if public or answer.status_code in allowed else [f"status {answer.status_code}"]
        return [f"{method} {path}: {each}" for each in [*wrong, *found]]


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
