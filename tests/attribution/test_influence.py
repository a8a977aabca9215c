"""Scores add up as stated, and nobody's score depends on who else is in the catalogue."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.attribution.curvature import ProjectedCurvature
from worker.attribution.influence import RowScale, by_song, first_order, pool, rank, scale_rows, signed_power

counts = st.integers(1, 30)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_unit_rows_have_unit_length_and_silence_stays_silent() -> None:
    rows = torch.cat([normal(3, 5) * torch.tensor([[1e-20], [1.0], [1e20]]), torch.zeros(1, 5)])
    scaled = scale_rows(rows, RowScale.UNIT)
    torch.testing.assert_close(scaled.norm(dim=1), torch.tensor([1.0, 1, 1, 0], dtype=torch.float64))
    assert torch.equal(scale_rows(rows, RowScale.NONE), rows)


def test_pooling_is_the_weighted_mean_for_each_half_of_the_draws() -> None:
    rows, weights = normal(2, 4, 3), torch.tensor([1.0, 0, 3, 4])
    expected = (rows * weights[:, None]).sum(1) / 8
    torch.testing.assert_close(pool(rows, weights), expected)
    torch.testing.assert_close(pool(rows[0], weights), expected[0])


@given(counts, counts, st.integers(0, 1000))
def test_a_song_gets_the_weighted_sum_of_its_segments(segments: int, songs: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    song_of = torch.randint(songs, (segments,), generator=draw)
    weights, scores = torch.rand(segments, generator=draw), normal(2, segments, seed=seed)
    found = by_song(scores, song_of, weights, songs)
    for song in range(songs):
        torch.testing.assert_close(found[:, song], (scores * weights)[:, song_of == song].sum(1))
    torch.testing.assert_close(found.sum(1), (scores * weights).sum(1))


def test_adding_a_song_never_changes_the_score_of_another() -> None:
    rows, query, song_of = normal(20, 8), normal(1, 8, seed=1), torch.arange(20) // 2
    solved = ProjectedCurvature.fit(rows, 0.1).solve(query)
    before = by_song(first_order(rows, solved), song_of, torch.ones(20), 10)
    more = torch.cat([rows, 100 * normal(2, 8, seed=2)])
    after = by_song(first_order(more, solved), torch.arange(22) // 2, torch.ones(22), 11)
    torch.testing.assert_close(after[:, :10], before, rtol=1e-12, atol=0)


def test_first_order_is_every_inner_product() -> None:
    rows, solved = normal(6, 4), normal(3, 4, seed=1)
    torch.testing.assert_close(first_order(rows, solved)[2, 5], rows[5] @ solved[2])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_ranking_goes_down_and_ties_keep_their_order(scores: list[int]) -> None:
    order = rank(torch.tensor(scores, dtype=torch.float64)).tolist()
    assert order == sorted(range(len(scores)), key=lambda i: (-scores[i], i))


def test_shapes_that_do_not_fit_are_refused() -> None:
    ones = torch.ones(3)
    long = torch.tensor([0, 1, 2])
    for wrong in (long[:2], ones, torch.tensor([0, 1, 3]), torch.tensor([0, 1, -1])):
        with pytest.raises(ValueError, match="song"):
            by_song(ones, wrong, ones, 3)
    with pytest.raises(ValueError, match="NaN"):
        rank(ones / 0 - ones / 0)
    with pytest.raises(ValueError, match="rows"):
        first_order(torch.ones(3, 4), torch.ones(2, 5))
    for weights in (torch.zeros(3), -ones, torch.ones(2)):
        with pytest.raises(ValueError, match="weights"):
            pool(torch.ones(3, 4), weights)


def test_the_signed_power_keeps_sign_and_order() -> None:
    scores = torch.tensor([-2.0, 0.0, 0.5, 3.0])
    assert signed_power(scores, 2.0).tolist() == [-4.0, 0.0, 0.25, 9.0]
    assert torch.equal(signed_power(scores, 1.0), scores)
    assert torch.equal(rank(signed_power(scores, 2.0)), rank(scores))
    with pytest.raises(ValueError, match="positive"):
        signed_power(scores, 0.0)
