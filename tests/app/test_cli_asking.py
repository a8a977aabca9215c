"""Tracks by command: sent, followed, and told as JSON to scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.live import serving
from tests.app.sounds import Sound
from tests.app.world import SHARES, complete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from app.config import Settings
    from app.db import Database
    from app.models import Model
    from tests.app.shell import Shell


@pytest.fixture
def url(app: FastAPI, run: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(app) as url:
        monkeypatch.setenv("ROOTNOTE_URL", url)
        Path("track.wav").write_bytes(Sound().encode())
        yield url


def told(out: str, begin: str) -> Any:
    """The JSON that begins so; the service of the test speaks too."""
    return json.JSONDecoder().raw_decode(out[out.index(begin) :])[0]


def test_a_track_is_sent_without_waiting_and_followed_later(
    run: Shell, url: str, model: Model, database: Database, settings: Settings
) -> None:
    status, out, _ = run("attribute", "track.wav", "--no-wait", "--external-id", "render-77", "--json")
    sent = told(out, '{"id"')
    assert (status, sent["status"], sent["external_id"]) == (0, "queued", "render-77")
    status, out, _ = run("attribute", "track.wav", "--no-wait")
    assert (status, "rootnote wait" in out) == (0, True)
    complete(database, settings, sent["id"])
    status, out, err = run("wait", sent["id"], "--json", "--top", "3")
    found = told(out, '{"attribution"')
    assert (status, found["attribution"]["status"]) == (0, "succeeded")
    assert [row["share"] for row in found["influences"]] == list(SHARES[:3])
    assert "succeeded" in err
    status, out, _ = run("wait", sent["id"])
    assert (status, "unattributed" in out, "Title 0" in out) == (0, True, True)
    song = found["influences"][0]["song"]["id"]
    status, out, _ = run("history", song, "--json")
    assert told(out, '{"song"')["influences"][0]["attribution"]["id"] == sent["id"]


def test_what_failed_says_why(run: Shell, url: str, model: Model) -> None:
    status, _, wrong = run("attribute", "track.wav", "--model", "unheard-of", "--no-wait")
    assert (status, "unheard-of" in wrong) == (1, True)
    assert run("wait", "nobody")[0] == 1
