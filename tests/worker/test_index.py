"""An index is what its manifest says, however often its making was interrupted, and nothing else is opened."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import tiny
from worker.attribution.curvature import DiagonalFisher, fisher_diagonal
from worker.attribution.gradients import mean_gradient
from worker.attribution.types import Segments
from worker.build import main, subject
from worker.building import Material, build
from worker.diffusion.stable_audio import StableAudio, load
from worker.engine import Engine
from worker.index import Expected, Index, gradient_rows, row_requests, unlearn_probe
from worker.manifest import IndexMismatch, Manifest

KEYS = [song.key for song in tiny.SONGS]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> StableAudio:
    return load(tiny_folder / "pipeline", "cpu")


@pytest.fixture(scope="module")
def material(model: StableAudio) -> Material:
    return tiny.material(model)


@pytest.fixture(scope="module")
def index(tiny_folder: Path) -> Index:
    return Index.open(tiny_folder / "index", Expected(Manifest.read(tiny_folder / "index").model_digest, KEYS))


def first(material: Material, songs: int) -> Material:
    return Material(material.training.part(0, songs), material.background)


def contents(folder: Path) -> dict[str, str]:
    """The index's own files; notes of what was verified, and the lock, differ from place to place."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Killed(Exception):
    pass


def dies_at(fraction: float) -> Callable[[float], None]:
    def progress(done: float) -> None:
        if done >= fraction:
            raise Killed

    return progress


def test_a_build_killed_again_and_again_ends_as_an_undisturbed_one(
    model: StableAudio, material: Material, tiny_folder: Path, tmp_path: Path
):
    about = subject(model, tiny_folder, 32)
    for fraction in (0.05, 0.4, 0.55, 0.9):
        with pytest.raises(Killed):
            build(about, material, tiny.CONFIG, tmp_path, dies_at(fraction))
        assert not (tmp_path / "manifest.json").exists()
    (tmp_path / "rows-000006-000008.partial").write_bytes(b"half a file")
    (tmp_path / "fisher.safetensors").write_bytes(b"torn by a crash")
    manifest = build(about, material, tiny.CONFIG, tmp_path)
    (tmp_path / "rows-000006-000008.partial").unlink(missing_ok=True)
    assert contents(tmp_path) == contents(tiny_folder / "index")
    assert manifest.index_digest == Manifest.read(tiny_folder / "index").index_digest


def test_what_is_made_is_not_made_again(model: StableAudio, material: Material, own_folder: Path):
    before = {path: path.stat().st_mtime_ns for path in (own_folder / "index").glob("*.safetensors")}
    build(subject(model, own_folder, 32), material, tiny.CONFIG, own_folder / "index")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_adding_a_song_moves_no_other_songs_score(
    model: StableAudio, material: Material, tiny_folder: Path, tmp_path: Path
):
    about = subject(model, tiny_folder, 32)
    build(about, first(material, 7), tiny.CONFIG, tmp_path)
    few = Index.open(tmp_path, Expected(about.digest, KEYS[:7]))
    build(about, material, tiny.CONFIG, tmp_path)
    many = Index.open(tmp_path, Expected(about.digest, KEYS))
    assert (len(few), len(many)) == (28, 32)
    query = torch.randn(2, len(tiny.CONFIG.measures), tiny.CONFIG.dim)
    assert torch.equal(few.by_song(few.scan(few.solved(query))), many.by_song(many.scan(many.solved(query)))[:, :7])
    assert torch.equal(few.background.scores, many.background.scores[:, :7])
    assert torch.equal(few.forgotten.scores, many.forgotten.scores[:, :7])
    assert many.background.scores[:, 7].abs().max() > 0
    assert many.forgotten.scores[:, 7].abs().max() > 0


def test_songs_that_are_not_the_first_ones_are_not_added_to(model: StableAudio, material: Material, own_folder: Path):
    about = subject(model, own_folder, 32)
    with pytest.raises(IndexMismatch, match="other songs"):
        build(about, first(material, 7), tiny.CONFIG, own_folder / "index")
    with pytest.raises(IndexMismatch, match="another model or configuration"):
        build(about, material, replace(tiny.CONFIG, draws=32), own_folder / "index")
    with pytest.raises(IndexMismatch, match="another model or configuration"):
        build(replace(about, digest="0" * 64), material, tiny.CONFIG, own_folder / "index")


def test_rows_are_the_gradients_of_the_kept_segments(model: StableAudio, index: Index):
    segments = index.segments(model, torch.arange(len(index)))
    exact = gradient_rows(model, segments, row_requests(tiny.CONFIG, 24))[0]
    kept = index.shard.rows.floats()
    assert exact.shape == (32, 2, tiny.CONFIG.dim)
    assert torch.nn.functional.cosine_similarity(exact, kept, dim=-1).min() > 0.9995
    assert (exact - kept).abs().max() <= 0.51 * index.shard.rows.scale.max()


def test_kept_segments_are_those_of_training(model: StableAudio, material: Material, index: Index):
    training = material.training
    kept = index.segments(model, torch.arange(len(index)))
    assert (kept.latents - training.latents).abs().max() < 0.02
    assert torch.equal(kept.mask, training.mask)
    own = tiny.windows_of(model, tiny.SONGS[3])
    told = model.encode(own, tiny.SONGS[3].caption)
    assert torch.equal(kept.cond.cross[12:16], told.cond.cross)
    assert torch.equal(kept.cond.globals_[12:16], told.cond.globals_)


def test_the_packed_fisher_hardly_turns_the_direction(model: StableAudio, material: Material, index: Index):
    segments = index.segments(model, torch.arange(len(index)))
    probe = replace(unlearn_probe(tiny.CONFIG, 16), grid=unlearn_probe(tiny.CONFIG, 16).grid)
    exact = fisher_diagonal(model, segments, probe, tiny.CONFIG.weights)
    gradient = mean_gradient(model, material.background[:1], probe, tiny.CONFIG.weights)
    flat = [
        torch.cat([d.flatten() for d in fisher.direction(gradient).values()])
        for fisher in (DiagonalFisher.of(exact, tiny.CONFIG.fisher_damping), index.fisher(model.device))
    ]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.999


def test_the_manifest_tells_the_service_what_it_needs(tiny_folder: Path, index: Index):
    content = json.loads((tiny_folder / "index" / "manifest.json").read_text())
    assert content["format"] == 3
    assert content["index_digest"] == index.manifest.index_digest
    assert [(song["key"], song["segments"]) for song in content["songs"]] == [(key, 4) for key in KEYS]
    assert (content["segment_seconds"], content["sampling_rate"]) == (1.024, 8000)
    assert {"model_digest", "catalogue_digest", "config"} <= set(content)


def edit(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_format(folder: Path) -> None:
    edit(folder, format=1)


def edited_configuration(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    edit(folder, config=content["config"] | {"damping": 0.2})


def unknown_setting(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    edit(folder, config=content["config"] | {"momentum": 1})


def changed_rows(folder: Path) -> None:
    path = folder / "rows-000000-000003.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def lost_rows(folder: Path) -> None:
    (folder / "rows-000003-000006.safetensors").unlink()


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    "spoil", [other_format, edited_configuration, unknown_setting, changed_rows, lost_rows, no_manifest]
)
def test_a_changed_index_is_refused(own_folder: Path, index: Index, spoil: Callable[[Path], None]):
    spoil(own_folder / "index")
    with pytest.raises(IndexMismatch):
        Index.open(own_folder / "index", Expected(index.manifest.model_digest, KEYS))


def test_a_foreign_index_is_refused(tiny_folder: Path, index: Index):
    with pytest.raises(IndexMismatch, match="model"):
        Index.open(tiny_folder / "index", Expected("f" * 64, KEYS))
    with pytest.raises(IndexMismatch, match="songs"):
        Index.open(tiny_folder / "index", Expected(index.manifest.model_digest, [*KEYS, "another"]))


def test_how_often_training_drew_a_segment_weighs_its_score(index: Index):
    scores = torch.ones(len(index))
    doubled = replace(index, shard=replace(index.shard, weight=index.shard.weight * 2))
    assert index.by_song(scores).tolist() == [4.0] * 8
    assert doubled.by_song(scores).tolist() == [8.0] * 8


def test_the_command_builds_an_index_that_the_engine_opens(material: Material, own_folder: Path, tmp_path: Path):
    shutil.rmtree(own_folder / "index")
    material.training.save(tmp_path / "training.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"draws": 4, "dim": 64, "nonzeros": 1, "measures": ["loss"]}))
    options = ["--background", "2", "--steps", "2", "--device", "cpu", "--config", str(tmp_path / "config.json")]
    main([str(own_folder), "--training", str(tmp_path / "training.safetensors"), *options])
    index = Engine.load(own_folder, "cpu").index
    assert (index.config.measures, index.config.draws, len(index)) == (("loss",), 4, 32)
    assert index.background.scores.shape == index.forgotten.scores.shape == (2, 8)


def test_background_tracks_may_be_given_without_text(
    model: StableAudio, material: Material, tmp_path: Path, tiny_folder: Path
):
    silent = model.condition([None], torch.zeros(1), torch.ones(1))
    track = Segments(material.background.latents[:1], material.background.mask[:1], silent)
    manifest = build(
        subject(model, tiny_folder, 32), Material(material.training.part(0, 2), track), tiny.CONFIG, tmp_path
    )
    assert len(manifest.songs) == 2
