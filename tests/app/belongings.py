"""What a tenant has, for the tests of who sees what: one of everything, each made the same way for every tenant."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import select

from app.access import keys
from app.access.scopes import Scope
from app.catalogue.registry import register_model
from app.db import reading, transaction
from app.models import (
    DEFAULT_TENANT,
    Attribution,
    Closing,
    ClosingTotal,
    Event,
    Holder,
    Side,
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
