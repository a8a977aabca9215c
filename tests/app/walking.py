"""The walk itself: every route called with an owner's ids in its address and body, and what of the owner came back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app import declared
from tests.app.sounds import Sound

if TYPE_CHECKING:
    from tests.app.belongings import Owned

PARAMETER = re.compile(r"{(\w+)}")
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
ANOTHER = Sound(seconds=1.5).encode()
"""What callers send; were it the owner's own track, they would be told its digest."""


def steps(app) -> list[tuple[str, str, bool]]:
    """Method and path of every route, and whether it is for everybody."""
    found = [
        (method, path, not scopes)
        for path, methods, scopes in declared.declarations(app.routes)
        for method in sorted(methods - {"HEAD"})
    ]
    assert len(found) > 50
    return found


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


def filled(path: str, owned: Owned) -> str:
    missing = [name for name in PARAMETER.findall(path) if name not in owned.places]
    assert not missing, (
        f"{path}: the cross-tenant walk has no {missing}. Make one in `belongings` and name it in `places` "
        "(tests/app/belongings.py), so that it is known that nobody else sees it."
    )
    return PARAMETER.sub(lambda found: owned.places[found.group(1)], path)


def sent(method: str, path: str, owned: Owned) -> dict[str, Any]:
    known = bodies(owned)
    assert method not in UNSAFE or (method, path) in known, (
        f"{method} {path}: the cross-tenant walk does not know what its owner would send. Say so in `bodies` "
        "(tests/app/walking.py), so that it is known that nobody else can."
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
