"""Shares and their remainder are 1, intervals cover, percentiles count."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from worker.attribution.calibrate import (
    Background,
    Bounds,
    Known,
    Scale,
    fit_of,
    fitted_shares,
    none,
    shares,
    spread,
)

finite = st.floats(-1e6, 1e6, width=32)
SCALE = Scale(0.6, 0.5, 0.03)
matrices = arrays("float64", array_shapes(min_dims=2, max_dims=2, max_side=12), elements=finite)


def exactly(scores: torch.Tensor) -> Bounds:
    return Bounds(scores, scores)


@given(matrices, st.data())
def test_shares_are_not_negative_and_sum_to_one_with_the_remainder(matrix: object, data: st.DataObject) -> None:
    background = Background(torch.as_tensor(matrix))
    songs = background.scores.shape[1]
    scores = torch.as_tensor(data.draw(arrays("float64", (songs,), elements=finite)))
    bounds = spread(scores, torch.as_tensor(data.draw(arrays("float64", (4, songs), elements=finite))))
    effects, reference = SCALE.effect(scores), data.draw(st.floats(1e-3, 10))
    fitted = fitted_shares(scores, effects, SCALE.bounds(scores, bounds), Known(background, reference))
    for found in (shares(scores, bounds, background), fitted, none(songs)):
        assert bool((found.shares >= 0).all())
        assert bool((found.low <= found.shares).all())
        assert bool((found.shares <= found.high + 1e-12).all())
        assert 0 <= found.unattributed <= 1
        assert float(found.shares.sum()) + found.unattributed == pytest.approx(1)


@given(st.floats(1e-3, 1e3))
def test_shares_do_not_depend_on_the_unit_of_the_scores(unit: float) -> None:
    scores, background = torch.tensor([5.0, 2.0, -1.0]).double(), torch.randn(30, 3, dtype=torch.float64)
    there = shares(unit * scores, exactly(unit * scores), Background(unit * background))
    torch.testing.assert_close(there.shares, shares(scores, exactly(scores), Background(background)).shares)


def test_only_what_exceeds_a_songs_own_background_is_shared() -> None:
    background = Background(torch.tensor([[1.0, 8.0, -4.0, 0.0]] * 40))
    scores = torch.tensor([6.0, 7.0, 3.0, -2.0])
    found = shares(scores, exactly(scores), background)
    torch.testing.assert_close(found.shares, torch.tensor([5 / 16, 0, 3 / 16, 0], dtype=torch.float64))
    assert found.unattributed == pytest.approx(0.5)


def test_no_positive_score_leaves_everything_unattributed() -> None:
    scores = torch.tensor([-1.0, 0.0])
    found = shares(scores, exactly(scores), Background(torch.full((3, 2), -9.0)))
    assert (found.shares.tolist(), found.unattributed) == ([0, 0], 1)


def test_a_fitted_share_is_the_effect_over_what_the_model_knows() -> None:
    scores, background = torch.tensor([0.2, 0.1, -0.3]), Background(torch.tensor([[0.0, 0.15, 0.0]]))
    bounds = SCALE.bounds(scores, Bounds(scores - 0.05, scores + 0.05))
    found = fitted_shares(scores, SCALE.effect(scores), bounds, Known(background, 0.5))
    half = (0.03**2 + 1.645**2 * (0.06**2 + 0.03**2)) ** 0.5
    for part, wanted in ((found.shares, 0.24), (found.low, (0.12 - half) / 0.5), (found.high, (0.12 + half) / 0.5)):
        torch.testing.assert_close(part, torch.tensor([wanted, 0, 0]).double(), check_dtype=False)
    assert found.unattributed == pytest.approx(0.76)


def test_effects_of_more_than_the_model_knows_are_scaled_down() -> None:
    scores = torch.tensor([3.0, 1.0])
    found = fitted_shares(scores, scores, exactly(scores), Known(Background(torch.zeros(1, 2)), 2.0))
    torch.testing.assert_close(found.shares, torch.tensor([0.75, 0.25]).double())
    assert found.unattributed == 0
    for reference in (0.0, -1.0):
        nothing = fitted_shares(scores, scores, exactly(scores), Known(Background(torch.zeros(1, 2)), reference))
        assert (nothing.shares.tolist(), nothing.unattributed) == ([0, 0], 1)


@pytest.mark.parametrize("wrong", [(0.0, 0.0, 1.0), (0.5, -0.1, 1.0), (0.5, 0.1, -0.4), (float("nan"), 0.1, 1.0)])
def test_a_scale_is_positive(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="slope"):
        Scale(*wrong)


def test_nine_in_ten_retrainings_lie_within_the_bounds_of_an_effect() -> None:
    make = torch.Generator().manual_seed(5)
    scores = torch.rand(20000, generator=make, dtype=torch.float64)
    slopes, noise = (torch.randn(20000, generator=make, dtype=torch.float64) for _ in range(2))
    retrained = SCALE.slope * (1 + SCALE.spread * slopes) * scores + SCALE.noise * noise
    bounds = SCALE.bounds(scores, exactly(scores))
    held = (bounds.low <= retrained) & (retrained <= bounds.high)
    assert float(held.double().mean()) == pytest.approx(0.9, abs=0.01)


def test_nine_in_ten_intervals_hold_what_they_estimate() -> None:
    groups = torch.randn(4, 20000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = spread(groups.mean(0), groups)
    assert float(((found.low <= 0) & (found.high >= 0)).double().mean()) == pytest.approx(0.9, abs=0.01)
    for wrong in (groups[:1], groups[:, :5], groups.repeat(3, 1)):
        with pytest.raises(ValueError, match="groups"):
            spread(groups.mean(0), wrong)


def test_a_fit_is_the_mean_over_draws_and_music() -> None:
    music = torch.tensor([3.0, 1.0])
    profile = torch.rand(2, 2, 32, generator=torch.Generator().manual_seed(0))
    found = fit_of(profile, music)
    loss, nothing = (0.75 * profile[:, 0] + 0.25 * profile[:, 1]).double().mean(1).tolist()
    assert (found.loss, found.nothing, found.reference) == pytest.approx((loss, nothing, nothing - loss))
    with pytest.raises(ValueError, match="music"):
        fit_of(profile, 0 * music)


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
        shares(torch.zeros(2), exactly(torch.zeros(2)), Background(torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="3 finite"):
        Background(torch.zeros(2, 3)).percentile(torch.full((3,), torch.nan))
