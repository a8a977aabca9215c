"""A service that has been in use: songs to hear, rights-holders, a result, a statement of last month."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import soundfile
from sqlalchemy import select

from app.db import transaction
from app.models import Attribution, Influence
from bench import tiny
from tests.test_end_to_end import RATE

if TYPE_CHECKING:
    from tests.test_end_to_end import Service

PROMPT = tiny.SONGS[0].caption


def begin(seconds: float) -> bytes:
    """A file: the begin of a song that was trained on, so that one song stands out in what is found."""
    return wav(tiny.SONGS[0].samples()[0, : int(seconds * RATE)])


@dataclass
class Platform:
    """The service, and what is in it. `result` is a track of two sections; `earlier` one that ended a month before."""

    service: Service
    result: str = ""
    earlier: str = ""
    holder: str = ""
    statement: str = ""
    song: str = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.service.settings.port}"

    def call(self, method: str, path: str, **rest: Any) -> Any:
        """An answer of the interface."""
        answer = httpx.request(method, self.address + path, timeout=60, **rest)
        assert answer.is_success, answer.text
        return answer.json()

    def fill(self) -> None:
        """Bring the service to where it is."""
        songs = {song["key"]: song for song in self.call("GET", "/v1/songs")["items"]}
        for made in tiny.SONGS[:-1]:  # one song is not held: pages stay useful without it
            self.call("PUT", f"/v1/songs/{songs[made.key]['id']}/audio", content=wav(made.samples()[0]))
        for song in songs.values():
            rights = [{"party": "Ada Tiny", "role": role, "share": 0.5} for role in ("performer", "composer")]
            self.call("PATCH", f"/v1/songs/{song['id']}", json={"rights": rights, "isrc": None})
        self.result, self.earlier = (self._attributed(seconds) for seconds in (2.0, 3.0))
        month = self._put_back(self.earlier)
        self.call("POST", f"/v1/statements/{month}/close")
        stated = self.call("GET", "/v1/statements")["items"][0]
        self.statement, self.holder = stated["id"], stated["holder"]["id"]
        self.song = self.call("GET", f"/v1/attributions/{self.result}/influences")["items"][0]["song"]["id"]

    def _attributed(self, seconds: float) -> str:
        track = self.service.track(begin(seconds), prompt=PROMPT)
        return self.service.client.attribute(track).id

    def _put_back(self, ident: str) -> str:
        """Let a result have come a month ago; returns that month."""
        with transaction(self.service.db) as session:
            row = session.get_one(Attribution, ident)
            moment = row.created_at.replace(day=1) - timedelta(days=10)
            row.created_at = row.started_at = row.finished_at = moment
            for influence in session.scalars(select(Influence).where(Influence.attribution_id == ident)):
                influence.created_at = moment
        return f"{moment:%Y-%m}"


def wav(samples: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, tiny.RATE, format="WAV")
    return file.getvalue()
