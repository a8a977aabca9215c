"""The client and the command that let the model forget a song."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.client import Client, NotSucceeded, Track
from app.counterfactuals.service import NotAttributed
from app.models import Status, Take
from tests.app import forgotten
from tests.app.forgotten import SOUNDS
from tests.app.live import serving
from tests.app.sounds import Sound
from tests.app.world import complete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from app.config import Settings
    from app.counterfactuals.schemas import Counterfactual as Seen
    from app.db import Database
    from app.models import Model
    from tests.app.shell import Shell


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    with serving(app) as url:
        yield url


@pytest.fixture
def api(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def ended(
    api: Client, model: Model, database: Database, database_settings: Settings, tmp_path: Path
) -> tuple[str, list[str]]:
    """An attribution that has ended, and its songs, best first."""
    path = tmp_path / "track.wav"
    path.write_bytes(Sound().encode())
    ident = api.post(Track(path, prompt="slow piano", seed=5)).id
    complete(database, database_settings, ident)
    return ident, [row.song.id for row in api.influences(ident)]


def test_the_client_follows_it_to_its_end_and_fetches_what_is_heard(
    api: Client, ended: tuple[str, list[str]], database: Database, database_settings: Settings, tmp_path: Path
) -> None:
    ident, songs = ended
    seen: list[Seen] = []

    def watch(found: Seen) -> None:
        seen.append(found)
        if found.status is Status.QUEUED:
            forgotten.complete(database, database_settings, found.id)

    done = api.forget(ident, songs[0], watch=watch)
    assert [found.status for found in seen] == [Status.QUEUED, Status.SUCCEEDED]
    assert done.result is not None
    assert (done.seed, done.result.song.change.mean) == (5, 0.05)
    api.take(done.id, Take.FORGOTTEN, tmp_path / "take.flac")
    assert (tmp_path / "take.flac").read_bytes() == SOUNDS[Take.FORGOTTEN]
    assert [found.id for found in api.counterfactuals(ident)] == [done.id]
    assert api.cancel_counterfactual(done.id).status is Status.SUCCEEDED


def test_what_was_canceled_is_raised_as_such(api: Client, ended: tuple[str, list[str]]) -> None:
    ident, songs = ended

    def stop(found: Seen) -> None:
        if found.status is Status.QUEUED:
            api.cancel_counterfactual(found.id)

    with pytest.raises(NotSucceeded, match="canceled"):
        api.forget(ident, songs[0], watch=stop)


def test_the_command_shows_what_moved_and_writes_the_recordings(
    run: Shell,
    url: str,
    api: Client,
    ended: tuple[str, list[str]],
    database: Database,
    database_settings: Settings,
) -> None:
    ident, songs = ended
    forgotten.complete(database, database_settings, api.ask_to_forget(ident, songs[0]).id)
    status, out, err = run("forget", ident, "--song", songs[0], "--out", "takes", "--url", url)
    assert (status, err) == (0, "")
    for words in ("+0.0500", "+0.0050", "control, by artist", "Title 0", "+0.0450"):
        assert words in out
    assert {path.name: path.read_bytes() for path in Path("takes").iterdir()} == {
        f"{take}.flac": SOUNDS[take] for take in Take
    }


def test_the_command_says_what_was_refused(run: Shell, url: str, api: Client, tmp_path: Path, model: Model) -> None:
    path = tmp_path / "track.wav"
    path.write_bytes(Sound().encode())
    ident = api.post(Track(path)).id
    status, _, err = run("forget", ident, "--song", "nothing", "--url", url)
    assert status == 1
    assert NotAttributed.title in err
