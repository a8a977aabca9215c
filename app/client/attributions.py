"""Tracks sent, followed and read."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.attributions.batch_schemas import Batch, BatchItem, BatchItemPage, BatchReceipt
from app.attributions.influence_schemas import InfluencePage, InfluenceRow
from app.attributions.schemas import Attribution, AttributionPage
from app.attributions.waiting import ENDED
from app.client.connection import Connection, once, read
from app.client.refusals import NotSucceeded, asked_to_wait, job_error
from app.models import Status
from app.usage.schemas import TenantUsage

POLL_SECONDS = 1.0

Watch = Callable[[Attribution], None]


@dataclass(frozen=True)
class Track:
    """A recording to attribute, and how; None leaves a choice to the service."""

    path: Path
    prompt: str | None = None
    seed: int | None = None
    model: str | None = None
    method: str | None = None
    external_id: str | None = None
    top_k: int | None = None

    def form(self) -> dict[str, str]:
        """Return what is sent beside the audio."""
        named = {} if self.external_id is None else {"external_id": self.external_id}
        return named | {name: str(value) for name, value in self.item().items()}

    def item(self) -> dict[str, Any]:
        """Return what is sent beside the audio and its name."""
        choices = {name: getattr(self, name) for name in ("prompt", "seed", "model", "method", "top_k")}
        return {name: value for name, value in choices.items() if value is not None}


class Attributions(Connection):
    """The calls about attributions and batches of them."""

    def attribute(self, track: Track, watch: Watch = lambda _: None) -> Attribution:
        """Post a track and wait for its result; `watch` sees every answer on the way.

        Raises the error that the attribution failed with, or NotSucceeded.
        """
        return self._follow(self._post(track), watch)

    def follow(self, attribution_id: str, watch: Watch = lambda _: None) -> Attribution:
        """Wait for the result of an attribution that was posted before; as `attribute` does."""
        return self._follow(self.call("GET", f"/v1/attributions/{attribution_id}"), watch)

    def post(self, track: Track) -> Attribution:
        """Post a track, once however often it must be sent; the answer says how its attribution stands."""
        return read(Attribution, self._post(track))

    def get(self, attribution_id: str) -> Attribution:
        """Say how an attribution stands."""
        return read(Attribution, self.call("GET", f"/v1/attributions/{attribution_id}"))

    def cancel(self, attribution_id: str) -> Attribution:
        """Ask for an attribution's end."""
        return read(Attribution, self.call("POST", f"/v1/attributions/{attribution_id}/cancel"))

    def reattribute(self, attribution_id: str) -> Attribution:
        """Have a track attributed again with the newest version of its model."""
        return read(Attribution, self.call("POST", f"/v1/attributions/{attribution_id}/reattribute", headers=once()))

    def attributions(self, **wanted: str) -> Iterator[Attribution]:
        """Yield attributions, the newest first; `wanted` are the list's own filters."""
        yield from self.items(AttributionPage, "/v1/attributions", wanted)

    def influences(self, attribution_id: str) -> Iterator[InfluenceRow]:
        """Yield the songs behind a track, best first, all that are stored."""
        yield from self.items(InfluencePage, f"/v1/attributions/{attribution_id}/influences")

    def add_to_batch(self, batch: str, tracks: Mapping[str, Track]) -> BatchReceipt:
        """Add tracks, each under a custom id, to a batch; to send one again changes nothing. Raises OSError."""
        items = [
            {"custom_id": custom_id, "file": f"f{place}", **track.item()}
            for place, (custom_id, track) in enumerate(tracks.items())
        ]
        with ExitStack() as opened:
            files = {
                f"f{place}": (track.path.name, opened.enter_context(track.path.open("rb")))
                for place, track in enumerate(tracks.values())
            }
            form = {"batch": batch, "items": json.dumps(items)}
            return read(BatchReceipt, self.call("POST", "/v1/batches", files=files, data=form, headers=once()))

    def batch(self, batch: str) -> Batch:
        """Say how the items of a batch stand."""
        return read(Batch, self.call("GET", f"/v1/batches/{batch}"))

    def batch_items(self, batch: str) -> Iterator[BatchItem]:
        """Yield the items of a batch with their attributions, in the order of their custom ids."""
        yield from self.items(BatchItemPage, f"/v1/batches/{batch}/items")

    def usage(self) -> TenantUsage:
        """Say what the caller may use, and used by month."""
        return read(TenantUsage, self.call("GET", "/v1/usage"))

    def _post(self, track: Track) -> httpx.Response:
        with track.path.open("rb") as file:
            files = {"audio": (track.path.name, file)}
            return self.call("POST", "/v1/attributions", files=files, data=track.form(), headers=once())

    def _follow(self, response: httpx.Response, watch: Watch) -> Attribution:
        attribution = read(Attribution, response)
        watch(attribution)
        while attribution.status not in ENDED:
            asked = asked_to_wait(response)
            time.sleep(POLL_SECONDS if asked is None else asked)
            response = self.call("GET", f"/v1/attributions/{attribution.id}")
            attribution = read(Attribution, response)
            watch(attribution)
        if attribution.error is not None:
            raise job_error(attribution.error)
        if attribution.status is not Status.SUCCEEDED:
            raise NotSucceeded(f"the attribution is {attribution.status}")
        return attribution
