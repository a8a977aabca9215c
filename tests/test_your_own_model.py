"""The page docs/your-own-model.md, followed word by word with a small model and a folder of songs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from app.client import Client
from app.demo import free_port
from app.supervisor import end, start, tail
from bench import tiny
from tests.processes import until
from worker.encode import NoSongs, recordings

PAGE = Path(__file__).parents[1] / "docs" / "your-own-model.md"
SMALL = {"draws": 8, "check_draws": 4, "unlearn_draws": 4, "fisher_draws": 4, "dim": 256, "forgotten": 4}
QUICKER = {"build": ["--config", "small.json", "--background", "4", "--steps", "4"]}
"""What the test adds to a command of the page, so that it ends in seconds."""


class Reader:
    """Someone who types the page's commands into a shell, in a folder with a pipeline and songs."""

    def __init__(self, place: Path, port: int) -> None:
        self.place = place
        self.environment = {"ROOTNOTE_DATA_DIR": str(place / "data"), "ROOTNOTE_PORT": str(port)}
        self.url = f"http://127.0.0.1:{port}"
        self.said: dict[str, str] = {}

    def command(self, line: str) -> tuple[str, ...]:
        words = shlex.split(line)
        return sys.executable, "-m", "app.cli", *words[1:], *QUICKER.get(words[2] if len(words) > 2 else "", [])

    def types(self, line: str) -> None:
        done = subprocess.run(
            self.command(line),
            cwd=self.place,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        self.said[line.split()[2] if line.split()[1] == "index" else line.split()[1]] = done.stdout

    def exports(self, line: str) -> None:
        self.environment |= dict(word.split("=", 1) for word in line.split()[1:])


@pytest.fixture
def reader(tiny_folder: Path, tmp_path: Path) -> Iterator[Reader]:
    shutil.copytree(tiny_folder / "pipeline", tmp_path / "my-model" / "pipeline")
    shutil.copy(tiny_folder / "prompts.json", tmp_path / "my-model")
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    (tmp_path / "my-songs").mkdir()
    for song in tiny.SONGS:
        soundfile.write(tmp_path / "my-songs" / f"{song.key}.flac", song.samples().T, tiny.RATE)
    return Reader(tmp_path, free_port("127.0.0.1", 0))


def test_the_page_leads_to_an_answer(reader: Reader) -> None:
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.S) for line in block.splitlines()]
    assert [line.split()[1] for line in lines].count("up") == 1
    service, log = None, reader.place / "up.log"
    try:
        for line in lines:
            if line.startswith("export"):
                reader.exports(line)
            elif line == "rootnote up":
                service = start_in(reader, log)
            else:
                if "attribute" in line:
                    with Client(reader.url) as client:
                        until(client.ready)
                reader.types(line)
        with Client(reader.url) as client:
            newest, *earlier = client.models()
            assert len(earlier) == 2
            assert (newest.name, newest.index.songs, newest.training_set.songs) == ("my-model", 8, 8)
            done = next(client.attributions())
            assert {row.song.key for row in client.influences(done.id)} == {song.key for song in tiny.SONGS}
            again = client.reattribute(done.id)
            until(lambda: client.get(again.id).result)
            rows = list(client.influences(again.id))
    except BaseException:
        sys.stderr.write(tail(log, 80) + tail(reader.place / "data" / "logs" / "builder.log", 40))
        raise
    finally:
        if service:
            end(service, 60.0)
    assert {row.song.key for row in rows} == {song.key for song in tiny.SONGS} - {"birch", "drift"}
    assert "Songs behind track.wav" in reader.said["attribute"]
    assert reader.said["versions"].split()[1:2] == ["6"]
    assert "succeeded, 100%" in reader.said["status"]


def start_in(reader: Reader, log: Path) -> subprocess.Popen[bytes]:
    here = Path.cwd()
    os.chdir(reader.place)
    try:
        return start(reader.command("rootnote up"), log, reader.environment)
    finally:
        os.chdir(here)


def test_a_catalogue_file_says_what_was_trained_on(tmp_path: Path) -> None:
    catalogue = tmp_path / "songs.csv"
    catalogue.write_text("key,path,caption,start_s,seconds\na,a.wav,,,\nb,sub/b.wav,slow,1.5,10\n")
    one, two = recordings(catalogue, tmp_path)
    assert (one.song.caption, one.song.begins_s, one.seconds) == (None, 0.0, None)
    assert (two.path, two.song.caption, two.song.begins_s, two.seconds) == (tmp_path / "sub/b.wav", "slow", 1.5, 10.0)
    catalogue.write_text("key,path\na,\n")
    with pytest.raises(NoSongs, match="path"):
        recordings(catalogue, tmp_path)
