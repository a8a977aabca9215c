"""Songs come, go and turn out to be one, and nobody else's score moves; a kill in the middle leaves an index."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import tiny
from worker.attribution.curvature import ProjectedCurvature
from worker.build import subject
from worker.building import Material, add, build
from worker.diffusion.stable_audio import StableAudio, load
from worker.edit import main, upgrade
from worker.editing import CannotEdit, held, join, remove
from worker.engine import Engine, Query
from worker.fitting import fit_curvature, pieces
from worker.index import CURVATURE, Expected, Index
from worker.manifest import IndexMismatch, Manifest, read_format, versions
from worker.verifying import STAMPS

KEYS = [song.key for song in tiny.SONGS]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> StableAudio:
    return load(tiny_folder / "pipeline", "cpu")


@pytest.fixture(scope="module")
def material(model: StableAudio) -> Material:
    return tiny.material(model)


@pytest.fixture
def folder(own_folder: Path) -> Path:
    return own_folder / "index"


def opened(folder: Path, version: str | None = None) -> Index:
    return Index.open(folder, Expected(Manifest.read(folder).model_digest, KEYS), version=version)


def scores(index: Index) -> dict[str, float]:
    """Every ranked song's score for one and the same query."""
    make = torch.Generator().manual_seed(3)
    query = torch.randn(1, len(tiny.CONFIG.measures), tiny.CONFIG.dim, generator=make)
    return dict(zip(index.keys, index.song_scores(index.scan(index.solved(query)))[0].tolist(), strict=True))


def backgrounds(index: Index) -> dict[str, list[list[float]]]:
    found = (index.background.scores, index.forgotten.scores)
    return {key: [each[:, at].tolist() for each in found] for at, key in enumerate(index.keys)}


def unmoved(before: Index, after: Index, keys: list[str]) -> None:
    """Assert that songs have the same scores and the same background, to the last bit."""
    for say in (scores, backgrounds):
        old, new = say(before), say(after)
        assert {key: old[key] for key in keys} == {key: new[key] for key in keys}


def test_a_song_taken_down_is_ranked_no_more_and_moves_nobody(folder: Path) -> None:
    before = opened(folder)
    manifest = remove(folder, ["cedar"])
    after = opened(folder)
    rest = [key for key in KEYS if key != "cedar"]
    assert (after.keys, manifest.parent) == (rest, before.manifest.index_digest)
    unmoved(before, after, rest)
    assert remove(folder, ["cedar"]).index_digest == manifest.index_digest


def test_duplicates_count_under_one_song_and_move_nobody(folder: Path) -> None:
    before, query = opened(folder), torch.ones(1, len(tiny.CONFIG.measures), tiny.CONFIG.dim)
    join(folder, ["drift"], "birch")
    after = opened(folder)
    rest = [key for key in KEYS if key not in {"drift", "birch"}]
    unmoved(before, after, rest)
    assert "drift" not in after.keys
    alone, together = (
        dict(zip(i.keys, i.by_song(i.scan(i.solved(query)))[0].tolist(), strict=True)) for i in (before, after)
    )
    assert together["birch"] == pytest.approx(alone["birch"] + alone["drift"])
    join(folder, ["birch"], "alder")
    assert {song.key: song.same_as for song in Manifest.read(folder).stored if song.same_as} == {
        "drift": "alder",
        "birch": "alder",
    }
    remove(folder, ["alder"])
    assert opened(folder).keys == [key for key in KEYS if key not in {"alder", "birch", "drift"}]


def test_songs_are_added_without_the_old_ones_and_move_nobody(
    model: StableAudio, material: Material, tiny_folder: Path, tmp_path: Path
) -> None:
    about, training = subject(model, tiny_folder, 32), material.training
    build(about, Material(training.part(0, 6), material.background), tiny.CONFIG, tmp_path)
    remove(tmp_path, ["birch"])
    few = opened_of(tmp_path, KEYS[:6])
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    nothing = Material(training.part(6, 8), material.background[:0])
    add(about, nothing, tmp_path)
    many = opened(tmp_path)
    assert many.keys == [key for key in KEYS if key != "birch"]
    unmoved(few, many, few.keys)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert scores(many)["heath"] != 0
    with pytest.raises(IndexMismatch, match="already"):
        add(about, nothing, tmp_path)


def opened_of(folder: Path, keys: list[str], version: str | None = None) -> Index:
    return Index.open(folder, Expected(Manifest.read(folder).model_digest, keys), version=version)


def test_earlier_versions_stay_and_answer_as_they_did(own_folder: Path, tiny_engine: Engine) -> None:
    first, track = tiny_engine.index_digest, Query(tiny.SONGS[2].samples(), tiny.RATE)
    second = remove(own_folder / "index", ["cedar"]).index_digest
    third = join(own_folder / "index", ["drift"], "birch").index_digest
    assert [each.index_digest for each in versions(own_folder / "index")] == [third, second, first]

    def ranking(engine: Engine) -> dict[str, float]:
        return {row.key: row.score for row in engine.attribute(track, lambda _stage, _done: None).influences}

    again = ranking(Engine.load(own_folder, "cpu", version=first))
    assert again == ranking(tiny_engine)
    newest = ranking(Engine.load(own_folder, "cpu"))
    assert set(again) - set(newest) == {"cedar", "drift"}
    assert {key: again[key] for key in newest if key != "birch"} == {
        key: score for key, score in newest.items() if key != "birch"
    }
    with pytest.raises(IndexMismatch):
        opened(own_folder / "index", "0" * 64)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: remove(folder, ["nobody"]),
        lambda folder: remove(folder, KEYS),
        lambda folder: join(folder, ["birch"], "birch"),
        lambda folder: join(folder, ["birch"], "nobody"),
    ],
)
def test_what_makes_no_sense_changes_nothing(folder: Path, change: Callable[[Path], Manifest]) -> None:
    before = Manifest.read(folder).index_digest
    with pytest.raises(CannotEdit):
        change(folder)
    assert Manifest.read(folder).index_digest == before


def test_one_changes_an_index_at_a_time(folder: Path) -> None:
    with held(folder), pytest.raises(IndexMismatch, match="another process"):
        remove(folder, ["cedar"])


KILLED = """
import os, signal, sys
from pathlib import Path
from worker.editing import remove
left, replace = int(sys.argv[2]), Path.replace
def dying(path, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return replace(path, target)
Path.replace = dying
remove(Path(sys.argv[1]), ["cedar"])
"""


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_process_killed_between_any_two_writes_leaves_the_old_index(folder: Path, writes: int) -> None:
    before = Manifest.read(folder).index_digest
    died = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(writes)], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert opened(folder).manifest.index_digest == before
    after = remove(folder, ["cedar"])
    assert opened(folder).keys == [key for key in KEYS if key != "cedar"]
    assert [each.index_digest for each in versions(folder)] == [after.index_digest, before]


def as_format_2(folder: Path) -> Manifest:
    """Write the index as it was before versions, kept tracks and kept background scores."""
    manifest = Manifest.read(folder)
    gone = [name for name in manifest.files if name.startswith(("unrelated", "tracks"))]
    older = replace(manifest, files={name: check for name, check in manifest.files.items() if name not in gone})
    older.save(folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    for each in [*(folder / name for name in gone), *(folder / "versions").iterdir()]:
        each.unlink()
    return older


def test_an_index_of_the_format_before_is_read_and_upgraded(
    folder: Path, model: StableAudio, material: Material, own_folder: Path
) -> None:
    newest = opened(folder)
    older = as_format_2(folder)
    before = opened(folder)
    assert (read_format(folder), before.unrelated_sums) == (2, None)
    assert before.manifest.index_digest == older.index_digest
    after = upgrade(folder)
    assert (read_format(folder), after.parent) == (3, older.index_digest)
    unmoved(before, opened(folder), KEYS)
    unmoved(newest, opened(folder), KEYS)
    assert opened(folder, older.index_digest).keys == KEYS
    assert upgrade(folder).index_digest == after.index_digest


def test_songs_added_to_the_format_before_need_its_tracks(
    folder: Path, model: StableAudio, material: Material, own_folder: Path
) -> None:
    as_format_2(folder)
    about, again = subject(model, own_folder, 32), material.training.part(0, 1)
    new = replace(again, songs=(replace(again.songs[0], key="alder-2"),))
    with pytest.raises(IndexMismatch, match="other background tracks"):
        add(about, Material(new, material.background[1:]), folder)
    before = opened(folder)
    add(about, Material(new, material.background), folder)
    after = opened_of(folder, [*KEYS, "alder-2"])
    unmoved(before, after, KEYS)
    assert scores(after)["alder-2"] == pytest.approx(scores(after)["alder"], rel=1e-4)


def test_what_was_verified_is_not_read_again_until_it_changes(folder: Path) -> None:
    opened(folder)
    noted = json.loads((folder / STAMPS).read_text())
    assert set(noted) == set(Manifest.read(folder).files)
    path = next(folder.glob("rows-*"))
    os.utime(path)
    opened(folder)
    assert json.loads((folder / STAMPS).read_text())[path.name] != noted[path.name]


def test_a_curvature_fitted_in_runs_is_the_same(folder: Path) -> None:
    rows = torch.randn(40_000, 6)
    whole = ProjectedCurvature.fit(rows, 0.5)
    assert torch.allclose(fit_curvature((rows[run] for run in pieces(0, len(rows))), 0.5).factor, whole.factor)
    assert CURVATURE not in Manifest.read(folder).files


def test_the_command_does_and_says_it(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(own_folder), "remove", "cedar"]) == 0
    assert main([str(own_folder), "merge", "drift", "--into", "birch"]) == 0
    newest = capsys.readouterr().out.split()[-1]
    assert main([str(own_folder), "versions"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in shown] == ["6", "7", "8"]
    assert (main([str(own_folder), "verify"]), main([str(own_folder), "upgrade"])) == (0, 0)
    assert capsys.readouterr().out.split() == [newest, newest]
    assert main([str(own_folder), "remove", "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err
