"""Forgetting one song, seen from a track: what vanishes with the step, whose song moves it most, what distances say."""

import pytest
import torch

from tests.attribution.toy import LINEAR, probe, random_segments, toy, train
from worker.attribution.counterfactual import apart, moved, shift
from worker.attribution.curvature import DiagonalFisher, fisher_diagonal
from worker.attribution.gradients import music_share
from worker.attribution.measure import values
from worker.attribution.types import Segments
from worker.attribution.unlearn import Step, forget_direction, unlearn

SONGS = random_segments(6, seed=1)
TRACK = Segments(SONGS.latents[2:3] + 0.1 * random_segments(1, seed=9).latents, SONGS.mask[2:3], SONGS.cond[2:3])


@pytest.fixture(scope="module")
def trained():
    model = toy()
    train(model, SONGS)
    return model


@pytest.fixture(scope="module")
def fisher(trained):
    return DiagonalFisher.of(fisher_diagonal(trained, SONGS, probe(), LINEAR), 0.1)


def change(model, fisher, song: int, relative: float, draws: int = 16) -> float:
    """How far forgetting one song moves the track's loss, measured on another grid."""
    one = probe(draws=draws, seed=77)
    direction = forget_direction(model, SONGS[song : song + 1], probe(), fisher)
    after = unlearn(model.params(LINEAR), direction, Step(relative))
    found = moved(values(model, {}, TRACK, one), values(model, after, TRACK, one), music_share(TRACK))
    return shift(found).mean


def test_the_song_that_a_track_is_near_to_moves_it_most(trained, fisher):
    changes = [change(trained, fisher, song, 2e-2) for song in range(len(SONGS))]
    assert changes.index(max(changes)) == 2


def test_without_a_step_nothing_moves(trained, fisher):
    sizes = [abs(change(trained, fisher, 2, relative)) for relative in (1e-2, 1e-3, 1e-4, 1e-5)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-2 * sizes[0]


def test_forgetting_leaves_the_weights_alone(trained, fisher):
    before = {n: p.detach().clone() for n, p in trained.module.named_parameters()}
    change(trained, fisher, 0, 1e-1)
    assert all(torch.equal(p, before[n]) for n, p in trained.module.named_parameters())


def test_windows_count_by_their_music():
    before, after = torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    found = moved(before, after, torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(found, torch.tensor([2.0, 2.75, 3.5], dtype=torch.float64))
    for bad in (torch.zeros(2, 2), torch.zeros(1, 3)):
        with pytest.raises(ValueError, match="before"):
            moved(before, bad, torch.tensor([0.5, 0.5]))


def test_an_interval_holds_its_mean_and_shrinks_with_agreement():
    noisy, calm = torch.tensor([0.0, 4.0, 1.0, 3.0] * 4), torch.full((16,), 2.0)
    wide, narrow = shift(noisy), shift(calm)
    assert wide.low < wide.mean == 2.0 < wide.high
    assert (narrow.low, narrow.mean, narrow.high) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="groups"):
        shift(noisy[:3])


def test_the_interval_covers_the_true_mean_about_nine_times_in_ten():
    torch.manual_seed(0)
    found = [shift(torch.randn(32)) for _ in range(1000)]
    covered = sum(each.low <= 0 <= each.high for each in found) / len(found)
    assert 0.87 < covered < 0.93


def test_distances_of_recordings():
    torch.manual_seed(0)
    first = torch.randn(1, 8192)
    assert apart(first, first.clone()) == apart(first, first)
    assert apart(first, first).spectral_db == apart(first, first).waveform == 0
    assert apart(first, 2 * first).waveform == pytest.approx(1)
    assert apart(first, 2 * first).spectral_db == pytest.approx(20 * torch.log10(torch.tensor(2.0)).item(), rel=0.02)
    turned = apart(first, -first)
    assert (turned.waveform, turned.spectral_db) == (pytest.approx(2), pytest.approx(0, abs=1e-4))
    with pytest.raises(ValueError, match="alike"):
        apart(first, first[:, :100])
    with pytest.raises(ValueError, match="silence"):
        apart(torch.zeros(1, 8192), first)
