"""Rows in four bits rank as those in eight, in a version of their own; what was fitted on the first stays."""

from pathlib import Path

import pytest
import torch

from bench import tiny
from worker.attribution.evaluate import spearman
from worker.build import subject
from worker.building import add
from worker.diffusion.layout import digest
from worker.diffusion.stable_audio import load
from worker.edit import main as edit
from worker.editing import CannotEdit
from worker.engine import song_keys
from worker.index import CURVATURE, Expected, Index
from worker.manifest import IndexConfig, Manifest, fresh
from worker.requantising import requantise


def opened(folder: Path, version: str | None = None) -> Index:
    expected = Expected(digest(folder / "pipeline"), song_keys(folder / "songs.csv"))
    return Index.open(folder / "index", expected, version=version)


def scores(index: Index) -> torch.Tensor:
    """Song scores of every kept background query."""
    return index.song_scores(index.scan(index.solved(index.background_rows.floats())))


def test_a_new_index_has_four_bits_and_one_that_says_nothing_of_them_eight():
    assert fresh({"dim": 512}) == IndexConfig(dim=512, bits=4)
    assert fresh({"bits": 8}) == IndexConfig(bits=8)
    assert IndexConfig.from_json(fresh({}).said()) == fresh({})
    assert IndexConfig.from_json({}).bits == 8
    with pytest.raises(TypeError):
        fresh({"momentum": 1})


def test_four_bits_rank_nearly_as_eight_in_half_the_bytes(own_folder: Path):
    before = opened(own_folder)
    requantise(own_folder / "index", 4)
    after = opened(own_folder)
    assert after.config.bits == 4
    assert after.shard.rows.codes.shape[-1] * 2 == before.shard.rows.codes.shape[-1]
    assert torch.nn.functional.cosine_similarity(before.rows(), after.rows(), dim=-1).min() > 0.985
    assert spearman(scores(before), scores(after)).min() > 0.9


def test_curvature_and_background_stay_and_so_does_the_version_before(own_folder: Path):
    before = opened(own_folder)
    kept = {name: (own_folder / "index" / name).read_bytes() for name in before.manifest.files}
    requantise(own_folder / "index", 4)
    after = opened(own_folder)
    assert CURVATURE in after.manifest.files
    assert torch.equal(after.curvature.factor, before.curvature.factor)
    assert torch.equal(after.background.scores, before.background.scores)
    assert all((own_folder / "index" / name).read_bytes() == content for name, content in kept.items())
    assert torch.equal(scores(opened(own_folder, before.manifest.index_digest)), scores(before))


def test_it_is_done_once_and_never_undone(own_folder: Path, capsys: pytest.CaptureFixture[str]):
    assert edit([str(own_folder), "requantise"]) == 0
    assert capsys.readouterr().out.strip() == Manifest.read(own_folder / "index").index_digest
    for bits in (4, 8):
        with pytest.raises(CannotEdit, match="does not come back"):
            requantise(own_folder / "index", bits)


def test_songs_added_later_are_kept_in_four_bits_too(own_folder: Path):
    model = load(own_folder / "pipeline", "cpu")
    song = tiny.TinySong("zephyr", "slow low tune", (1.0, 0.5), (140.0, 170.0), 2.0, 0.0)
    requantise(own_folder / "index", 4)
    before = scores(opened(own_folder))
    with (own_folder / "songs.csv").open("a") as file:
        file.write("zephyr,Zephyr,Tiny,CC0-1.0,,,4.096,slow low tune,0,\n")
    add(subject(model, own_folder, 32), tiny.material(model, [song]), own_folder / "index")
    grown = opened(own_folder)
    assert grown.keys[-1] == "zephyr"
    assert grown.shard.rows.codes.dtype == torch.uint8
    torch.testing.assert_close(scores(grown)[:, :-1], before)
