"""The command line says what it does, and what went wrong in words."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.client import Client, Track
from app.config import Settings
from app.db import Database
from app.models import DEFAULT_TENANT, Model
from tests.app.here import make_key
from tests.app.live import serving
from tests.app.shell import Shell
from tests.app.sounds import Sound
from tests.app.world import complete, model_folder
from tests.processes import environment


def test_help_names_every_command(run: Shell) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for name in (
        "up",
        "demo",
        "migrate",
        "sweep",
        "attribute",
        "history",
        "generate",
        "songs",
        "models",
        "keys",
        "tenants",
    ):
        assert f" {name} " in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("attribute", "track.wav"), "The service does not answer"),
        (("history", "USSKG1912345"), "Is `rootnote up` running?"),
        (("models", "register", "."), "index/manifest.json"),
        (("generate", "a song", "--folder", "nowhere"), "No track could be generated"),
        (("up", "--port", "0.5"), "valid integer"),
        (("attribute", "absent.wav"), "does not exist"),
    ],
)
def test_what_is_to_be_expected_ends_in_words(
    run: Shell, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    Path("track.wav").write_bytes(Sound().encode())
    monkeypatch.setenv("ROOTNOTE_URL", "http://127.0.0.1:9")
    status, _, err = run(*arguments)
    assert status != 0
    assert words in err
    assert "Traceback" not in err


def test_a_wrong_setting_is_named(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTNOTE_LEASE_SECONDS", "soon")
    status, _, err = run("migrate")
    assert status == 1
    assert "ROOTNOTE_LEASE_SECONDS" in err


def test_migrating_and_registering_can_be_repeated(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTNOTE_MODELS", str(model_folder(Path.cwd())))
    assert [run("migrate")[0] for _ in range(2)] == [0, 0]
    status, out, _ = run("models", "register", str(model_folder(Path.cwd(), "second", songs=3)))
    assert (status, "Model second: 3 songs" in out) == (0, True)


def table(out: str) -> str:
    """The rows of the table in what was printed."""
    return out[out.index("┡") : out.rindex("┘")]


class TestWithAService:
    """Commands that talk to a running API."""

    @pytest.fixture
    def url(self, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        with serving(app) as url:
            monkeypatch.setenv("ROOTNOTE_URL", url)
            yield url

    def test_history_by_isrc_and_by_id(
        self, run: Shell, url: str, model: Model, database: Database, settings: Settings
    ) -> None:
        Path("track.wav").write_bytes(Sound().encode())
        with Client(url) as client:
            ident = client.post(Track(Path("track.wav"))).id
            complete(database, settings, ident)
            song = next(client.influences(ident)).song
        status, out, _ = run("history", song.id)
        assert status == 0
        assert f"Influence history of {song.title}" in out
        assert "track.wav" in out
        Path("songs.csv").write_text(f"key,title,artist,isrc\n{song.key},{song.title},{song.artist},USSKG1912345\n")
        assert run("songs", "import", "songs.csv")[0] == 0
        assert table(run("history", "US-SKG-19-12345")[1]) == table(out)
        assert run("history", "nobody's")[0] == 1

    def test_an_import_says_what_it_left_out(self, run: Shell, url: str, model: Model) -> None:
        Path("songs.csv").write_text("key,title,artist,colour\nk-1,Night Drive,Ada,red\nk-2,,Bo,blue\n")
        status, out, _ = run("songs", "import", "songs.csv", "--dry-run")
        assert status == 1
        assert "1 would be created" in out
        assert "line 3, column 2, title" in out
        assert "colour" in out


def test_the_demo_shows_everything_and_stops(tiny_folder: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", models=(tiny_folder,), model_name=tiny_folder.name, port=0)
    command = (sys.executable, "-m", "app.cli", "demo")
    given = environment(settings)
    demo = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=250)
    assert (demo.returncode, demo.stderr) == (0, "")
    stages = [line.strip() for line in demo.stdout.splitlines() if line.startswith("  ")]
    assert stages == ["queued", "decoding", "encoding", "unlearning", "scoring", "ranking", "succeeded"]
    prompt = json.loads((tiny_folder / "prompts.json").read_text())["demo"]
    for words in (f'"{prompt}"', "POST http://", "unattributed:", "method: index", "Influence history of"):
        assert words in demo.stdout
    songs = (tiny_folder / "songs.csv").read_text().splitlines()[1:]
    assert all(f" {song.split(',')[1]} " in demo.stdout for song in songs)
    assert demo.stdout.count("generated") >= 3
    assert re.search(r"^report: http://[\d.:]+/attributions/[\w-]+$", demo.stdout, re.MULTILINE)
    assert re.search(r"^song: http://[\d.:]+/songs/[\w-]+$", demo.stdout, re.MULTILINE)
    assert demo.stdout.splitlines()[-1] == "Stopped."


def test_keys_and_tenants_are_made_on_the_command_line(run: Shell) -> None:
    assert run("tenants", "create", "label-a", "--name", "Label A")[0] == 0
    assert "already" in run("tenants", "create", "label-a")[2]
    assert "no id of a tenant" in run("tenants", "create", "Label A")[2]
    status, out, _ = run("keys", "create", "nightly", "--tenant", "label-a", "--scope", "catalogue:read")
    secret = out.split()[-1]
    assert status == 0
    assert secret.startswith("rn_")
    status, listed, _ = run("keys", "list")
    assert status == 0
    assert secret[:10] in listed
    assert secret not in listed
    status, out, _ = run("keys", "rotate", secret[:10], "--hours", "2")
    assert status == 0
    assert out.split()[-1] != secret
    assert run("keys", "revoke", secret[:10])[0] == 0
    assert "is revoked or has expired" in run("keys", "rotate", secret[:10])[2]
    assert "There is nothing here" in run("keys", "revoke", "rn_unknown")[2]


def test_the_command_line_shows_its_key(
    run: Shell, app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = make_key(database, DEFAULT_TENANT)
    with serving(app) as url:
        assert "A key is needed" in run("history", "x", "--url", url)[2]
        monkeypatch.setenv("ROOTNOTE_KEY", secret)
        assert "neither the id nor the ISRC" in run("history", "x", "--url", url)[2]
