"""What the files of an index keep, how nearly, and what is not read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from worker.manifest import IndexMismatch
from worker.shards import Bytes, compress_positive, expand_positive, is_made, read, unpacked, write
from worker.training import TrainingSet, TrainingSong


@pytest.fixture
def training() -> TrainingSet:
    """Eight songs of two segments."""
    songs = tuple(TrainingSong(f"song-{number}", "slow tune") for number in range(8))
    rows = {"weight": torch.ones(16), "starts": torch.zeros(16), "totals": torch.ones(16)}
    return TrainingSet(songs, torch.randn(16, 4, 6), torch.ones(16, 6), torch.arange(8).repeat_interleave(2), **rows)


def test_packing_keeps_positive_numbers_within_their_error():
    values = {"w": torch.logspace(-6, 3, 500), "zero": torch.zeros(3)}
    back = expand_positive(compress_positive(values))
    assert ((back["w"] - values["w"]).abs() / values["w"])[200:].max() < 0.036
    assert back["w"].min() >= 0
    assert not back["zero"].any()


def test_bytes_keep_numbers_within_half_a_step():
    values = torch.randn(5, 7, 11) * torch.logspace(-3, 3, 5)[:, None, None]
    kept = Bytes.of(values)
    assert ((kept.floats() - values).abs() <= 0.501 * kept.scale).all()
    assert torch.equal(kept.floats(torch.tensor([3, 1])), kept.floats()[[3, 1]])
    assert not Bytes.of(torch.zeros(2, 3)).floats().any()


def test_only_safetensors_are_opened(tmp_path: Path):
    path = tmp_path / "rows.safetensors"
    torch.save({"rows": torch.zeros(1)}, path)
    with pytest.raises(IndexMismatch, match="cannot be read"):
        read(path)
    assert not is_made(path, "recipe")


def test_a_file_is_known_by_what_it_was_made_from(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write(path, {"x": torch.ones(2)}, "recipe")
    assert is_made(path, "recipe")
    assert not is_made(path, "another")
    assert not is_made(tmp_path / "b.safetensors", "recipe")
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_training_set_comes_back_from_its_file(training: TrainingSet, tmp_path: Path):
    training.save(tmp_path / "training.safetensors")
    back = TrainingSet.load(tmp_path / "training.safetensors")
    assert back.songs == training.songs
    assert torch.equal(back.latents, training.latents)
    assert torch.equal(back.song, training.song)


def test_a_training_set_out_of_order_is_refused(training: TrainingSet):
    with pytest.raises(ValueError, match="order of the songs"):
        replace(training, song=training.song.flip(0))
    with pytest.raises(ValueError, match="one row a segment"):
        replace(training, weight=torch.ones(3))
    with pytest.raises(ValueError, match="names every song once"):
        replace(training, songs=(*training.songs[:7], TrainingSong("song-0", None)))
    with pytest.raises(ValueError, match="its segments"):
        replace(training, songs=(*training.songs, TrainingSong("another", None)))


def test_four_bits_keep_the_direction_of_a_run_and_pack_without_loss():
    values = (
        torch.randn(50, 2, 256, generator=torch.Generator().manual_seed(4)) * torch.logspace(-3, 3, 50)[:, None, None]
    )
    values[3] = 0
    values[4, 0, 1:] = 0
    kept = Bytes.of(values, 4)
    assert kept.codes.dtype == torch.uint8
    assert kept.codes.shape == (50, 2, 128)
    near = torch.nn.functional.cosine_similarity(values, kept.floats(), dim=-1)
    assert near[5:].min() > 0.985
    assert near[4, 0] == pytest.approx(1)
    assert not kept.floats()[3].any()
    codes = unpacked(kept.codes)
    assert codes.abs().max() == 7
    torch.testing.assert_close(codes.float() * kept.scale, kept.floats(), rtol=0, atol=0)


@pytest.mark.parametrize(("shape", "bits"), [((2, 3), 4), ((2, 4), 2)])
def test_runs_that_cannot_be_packed_are_refused(shape: tuple[int, int], bits: int):
    with pytest.raises(ValueError, match=r"byte|bits"):
        Bytes.of(torch.ones(shape), bits)
