"""A service is copied while it works, killed, and put back elsewhere: no history is lost, and its jobs go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from app.models import Status
from tests.app.sounds import Sound
from tests.processes import alive, until, worker_child
from tests.test_end_to_end import RATE, SONGS, Service, serving

if TYPE_CHECKING:
    from pathlib import Path


def command(data: Path, *words: str) -> None:
    environment = os.environ | {"ROOTNOTE_DATA_DIR": str(data)}
    told = subprocess.run([sys.executable, "-m", "app.cli", *words], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def history(service: Service, ident: str) -> list[tuple[object, ...]]:
    """What the service says of every song that was found in a track."""
    songs = [row.song.id for row in service.client.influences(ident)]
    return [
        (song, row.attribution.id, row.rank, row.score, row.share)
        for song in songs
        for row in service.client.history(song)
    ]


@pytest.mark.timeout(600)
def test_a_copy_of_a_working_service_outlives_it(tiny_folder: Path, tmp_path: Path) -> None:
    with serving(tiny_folder, tmp_path / "first") as service:
        done = service.client.attribute(service.track(Sound(seconds=3, rate=RATE).encode())).id
        running = service.post_long()
        before = history(service, done)
        command(service.settings.data_dir, "backup", str(tmp_path / "copy"))
        child = worker_child(service.db)
        service.up.process.send_signal(signal.SIGKILL)
        until(lambda: not alive(child), 20.0)
    command(tmp_path / "second" / "data", "restore", str(tmp_path / "copy"))
    with serving(tiny_folder, tmp_path / "second") as service:
        assert len(before) == SONGS
        assert history(service, done) == before
        ended = service.ended(running)
        assert (ended.status, ended.attempts) == (Status.SUCCEEDED, 2)
        assert service.influences(running) == SONGS
