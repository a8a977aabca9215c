"""Counterfactuals: asked for, followed, heard."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.attributions.waiting import ENDED
from app.client.connection import Connection, once, read
from app.client.refusals import NotSucceeded, job_error
from app.counterfactuals.schemas import Counterfactual, CounterfactualPage
from app.models import Status, Take

POLL_SECONDS = 2.0


class Counterfactuals(Connection):
    """The calls about songs that the model is to forget."""

    def forget(
        self,
        attribution_id: str,
        song_id: str,
        prompt: str | None = None,
        seed: int | None = None,
        watch: Callable[[Counterfactual], None] = lambda _: None,
    ) -> Counterfactual:
        """Let the model forget a song and wait for the track made again; `watch` sees every answer on the way.

        Raises the error that it failed with, or NotSucceeded.
        """
        found = self.ask_to_forget(attribution_id, song_id, prompt, seed)
        watch(found)
        while found.status not in ENDED:
            time.sleep(POLL_SECONDS)
            found = self.counterfactual(found.id)
            watch(found)
        if found.error is not None:
            raise job_error(found.error)
        if found.status is not Status.SUCCEEDED:
            raise NotSucceeded(f"the counterfactual is {found.status}")
        return found

    def ask_to_forget(
        self, attribution_id: str, song_id: str, prompt: str | None = None, seed: int | None = None
    ) -> Counterfactual:
        """Ask for a counterfactual, once however often it must be sent; the answer says how it stands."""
        asked: dict[str, Any] = {"song_id": song_id, "prompt": prompt, "seed": seed}
        sent = {name: value for name, value in asked.items() if value is not None}
        address = f"/v1/attributions/{attribution_id}/counterfactuals"
        return read(Counterfactual, self.call("POST", address, json=sent, headers=once()))

    def counterfactual(self, counterfactual_id: str) -> Counterfactual:
        """Say how a counterfactual stands."""
        return read(Counterfactual, self.call("GET", f"/v1/counterfactuals/{counterfactual_id}"))

    def counterfactuals(self, attribution_id: str) -> Iterator[Counterfactual]:
        """Yield an attribution's counterfactuals, the newest first."""
        yield from self.items(CounterfactualPage, f"/v1/attributions/{attribution_id}/counterfactuals")

    def cancel_counterfactual(self, counterfactual_id: str) -> Counterfactual:
        """Ask for a counterfactual's end."""
        return read(Counterfactual, self.call("POST", f"/v1/counterfactuals/{counterfactual_id}/cancel"))

    def take(self, counterfactual_id: str, take: Take, path: Path) -> None:
        """Write one of a counterfactual's recordings to `path`. Raises OSError."""
        path.write_bytes(self.call("GET", f"/v1/counterfactuals/{counterfactual_id}/audio/{take}").content)
