"""Shares and their remainder are 1, percentiles count, verdicts follow the weaker sign."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from worker.attribution.calibrate import (
    Background,
    agreement,
    effective_rank,
    hub_agreement,
    reliability,
    shares,
)

finite = st.floats(-1e6, 1e6, width=32)
matrices = arrays("float64", array_shapes(min_dims=2, max_dims=2, max_side=12), elements=finite)


@given(matrices, st.data())
def test_shares_are_not_negative_and_sum_to_one_with_the_remainder(matrix: object, data: st.DataObject) -> None:
    background = Background(torch.as_tensor(matrix))
    songs = background.scores.shape[1]
    scores = torch.as_tensor(data.draw(arrays("float64", (songs,), elements=finite)))
    found = shares(scores, background)
    assert bool((found.shares >= 0).all())
    assert 0 <= found.unattributed <= 1
    assert float(found.shares.sum()) + found.unattributed == pytest.approx(1)


@given(st.floats(1e-3, 1e3))
def test_shares_do_not_depend_on_the_unit_of_the_scores(unit: float) -> None:
    scores, background = torch.tensor([5.0, 2.0, -1.0]).double(), torch.randn(30, 3, dtype=torch.float64)
    there = shares(unit * scores, Background(unit * background))
    torch.testing.assert_close(there.shares, shares(scores, Background(background)).shares)


def test_only_what_exceeds_a_songs_own_background_is_shared() -> None:
    background = Background(torch.tensor([[1.0, 8.0, -4.0, 0.0]] * 40))
    found = shares(torch.tensor([6.0, 7.0, 3.0, -2.0]), background)
    torch.testing.assert_close(found.shares, torch.tensor([5 / 16, 0, 3 / 16, 0], dtype=torch.float64))
    assert found.unattributed == pytest.approx(0.5)


def test_no_positive_score_leaves_everything_unattributed() -> None:
    found = shares(torch.tensor([-1.0, 0.0]), Background(torch.full((3, 2), -9.0)))
    assert (found.shares.tolist(), found.unattributed) == ([0, 0], 1)


def test_a_percentile_is_the_part_of_the_background_below() -> None:
    background = Background(torch.arange(10.0)[:, None].repeat(1, 4))
    found = background.percentile(torch.tensor([-1.0, 0.5, 5.0, 99.0]))
    torch.testing.assert_close(found, torch.tensor([0.0, 10, 50, 100], dtype=torch.float64))


@given(st.integers(0, 1000))
def test_scores_like_the_background_have_uniform_percentiles(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    found = Background(torch.randn(200, 400, generator=draw)).percentile(torch.randn(400, generator=draw))
    assert abs(float(found.mean()) - 50) < 8


def test_a_background_is_checked() -> None:
    for wrong in (torch.zeros(3), torch.zeros(0, 3), torch.full((2, 3), torch.nan)):
        with pytest.raises(ValueError, match="background"):
            Background(wrong)
    with pytest.raises(ValueError, match="3 finite"):
        shares(torch.zeros(2), Background(torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="3 finite"):
        Background(torch.zeros(2, 3)).percentile(torch.full((3,), torch.nan))


@pytest.mark.parametrize(
    ("halves", "linearisation", "verdict"),
    [(0.9, 0.85, "good"), (0.9, None, "good"), (0.9, 0.6, "fair"), (0.55, 0.99, "fair"), (0.2, 0.9, "poor")],
)
def test_the_weaker_sign_decides(halves: float, linearisation: float | None, verdict: str) -> None:
    found = reliability(halves, linearisation)
    assert (found.halves, found.linearisation, found.verdict) == (halves, linearisation, verdict)


def test_agreement_is_of_ranks() -> None:
    x = torch.randn(50)
    assert agreement(x, x.exp()) == pytest.approx(1)
    assert agreement(x, -x) == pytest.approx(-1)
    assert agreement(x, torch.zeros(50)) == 0


def test_hubs_show() -> None:
    base = torch.randn(30, dtype=torch.float64)
    crowd = Background(base + 0.01 * torch.randn(20, 30, dtype=torch.float64))
    assert hub_agreement(base, crowd) > 0.99
    assert effective_rank(crowd.scores) < 1.1
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    with pytest.raises(ValueError, match="zeros"):
        effective_rank(torch.zeros(2, 2))
