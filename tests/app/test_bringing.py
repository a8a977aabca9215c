"""A folder of tagged recordings becomes songs: once, with every fault told by its file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import mutagen
import pytest
from mutagen.id3 import ID3, TIT2, TPE1, TSRC, TXXX

from app import bringing, tagged
from app.client import Client
from app.models import Song
from tests.app.live import serving
from tests.app.sounds import Sound
from tests.app.world import objects, rows

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"title": "Night  Drive", "artist": "Björk & Co", "isrc": "US-SKG-19-12345", "barcode": "036000291452"}


def tag(path: Path, **facts: str) -> None:
    """Write tags as the format of the file has them."""
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    if isinstance(file.tags, ID3):
        frames = {"title": TIT2, "artist": TPE1, "isrc": TSRC}
        for name, text in facts.items():
            frame = frames[name](encoding=3, text=[text]) if name in frames else TXXX(3, name.upper(), [text])
            file.tags.add(frame)
    else:
        file.tags.update({name: [text] for name, text in facts.items()})
    file.save()


def recording(path: Path, kind: str = "FLAC", seconds: float = 2.0, **facts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Sound(seconds=seconds).encode(kind))
    if facts:
        tag(path, **facts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "music"


@pytest.fixture
def api(app):
    with serving(app) as url, Client(url) as client:
        yield client


@pytest.mark.parametrize(
    ("kind", "ending"), [("WAV", "wav"), ("FLAC", "flac"), ("MP3", "mp3"), ("OGG", "ogg"), ("AIFF", "aif")]
)
def test_tags_are_read_from_every_format(folder: Path, kind: str, ending: str) -> None:
    recording(folder / f"a.{ending}", kind, **FACTS)
    (found,) = tagged.read(folder).recordings
    assert {name: found.cells[name] for name in ("key", "title", "artist", "isrc", "upc")} == {
        "key": f"a.{ending}",
        "title": "Night Drive",
        "artist": "Björk & Co",
        "isrc": FACTS["isrc"],
        "upc": FACTS["barcode"],
    }
    assert float(found.cells["duration_s"]) == pytest.approx(2.0, abs=0.1)


def test_a_folder_is_brought_in_once_and_its_recordings_with_it(api, folder, database, settings):
    recording(folder / "one.flac", **FACTS)
    recording(folder / "deep" / "two.mp3", "MP3", title="Rain", artist="Bo")
    (folder / "notes.txt").write_text("no recording")
    tried = bringing.folder(api, folder, dry_run=True, audio=True)
    assert (tried.report.created, tried.sent, rows(database, Song), objects(settings)) == (2, 0, 0, [])
    first = bringing.folder(api, folder, audio=True)
    assert (first.report.created, first.sent, first.failed, first.report.errors) == (2, 2, {}, [])
    again = bringing.folder(api, folder, audio=True)
    assert (again.report.unchanged, again.sent, rows(database, Song)) == (2, 0, 2)
    (song,) = api.songs(key="one.flac")
    assert (song.isrc, song.upc, song.title) == ("USSKG1912345", "036000291452", "Night Drive")
    assert song.audio_sha256 == tagged.read(folder).recordings[1].sha256
    tag(folder / "one.flac", title="Night Drive (Live)")
    changed = bringing.folder(api, folder, audio=True)
    assert (changed.report.updated, changed.sent) == (1, 1)


def test_every_fault_is_told_by_its_file(api, folder, database):
    recording(folder / "a.flac", title="No artist")
    recording(folder / "b.flac", title="T", artist="A", isrc="nonsense", barcode="036000291453")
    recording(folder / "c.flac", title="T", artist="A")
    recording(folder / "d.flac", title="T", artist="A", isrc="XX-SKG-19-12345")
    recording(folder / "short.flac", seconds=0.01, title="T", artist="A")
    (folder / "broken.mp3").write_bytes(b"no audio" * 100)
    brought = bringing.folder(api, folder, audio=True)
    told = [(error.message.split(":")[0], error.field) for error in brought.report.errors]
    assert told == [("a.flac", "artist"), ("b.flac", "isrc"), ("b.flac", "upc")]
    assert [warning.message.split(":")[0] for warning in brought.report.warnings] == ["d.flac"]
    assert set(brought.failed) == {"broken.mp3"}
    assert (brought.report.created, brought.sent) == (3, 3)


def test_a_recording_that_the_service_refuses_does_not_stop_the_others(api, folder, database):
    recording(folder / "a.flac", title="T", artist="A")
    (folder / "b.flac").write_bytes((folder / "a.flac").read_bytes()[:600])
    brought = bringing.folder(api, folder, audio=True)
    assert (list(brought.failed), brought.sent) == (["b.flac"], 1)


def test_by_command(app, run, folder, monkeypatch):
    recording(folder / "a.flac", title="T", artist="A")
    with serving(app) as url:
        monkeypatch.setenv("ROOTNOTE_URL", url)
        assert run("songs", "import", str(folder), "--audio")[0] == 0
        recording(folder / "b.flac", title="T")
        status, out, _ = run("songs", "import", str(folder), "--dry-run")
        assert (status, "b.flac: Field required" in out) == (1, True)
        status, out, _ = run("songs", "import", str(folder), "--dry-run", "--json")
        report = json.loads(out[out.index('{"dry_run"') :])
        assert (status, report["unchanged"], report["errors"][0]["field"]) == (1, 1, "artist")
