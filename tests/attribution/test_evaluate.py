"""The linear datamodeling score is right where the truth is known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from worker.attribution.evaluate import (
    Bootstrap,
    Truth,
    average_ranks,
    lds,
    paired_difference,
    spearman,
)

QUERIES, SONGS, MODELS = 12, 30, 25


def world(noise: float = 0.0, seed: int = 0) -> tuple[Tensor, Truth]:
    """A world where every song takes its influence off a query's loss, and the scores that say so."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(QUERIES, SONGS, generator=draw, dtype=torch.float64)
    kept = torch.rand(MODELS, SONGS, generator=draw) < 0.5
    losses = 7 - kept.double() @ scores.mT
    return scores, Truth(kept, losses + noise * torch.randn(MODELS, QUERIES, generator=draw))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=20))
def test_ranks_of_ties_are_their_mean(x: list[int]) -> None:
    expected = [sum(v < u for v in x) + (sum(v == u for v in x) + 1) / 2 for u in x]
    assert average_ranks(torch.tensor([x, x]).double()).tolist() == [expected, expected]


def test_spearman_equals_the_textbook_without_and_with_ties() -> None:
    x, y = torch.randperm(20).double(), torch.randperm(20).double()
    textbook = 1 - 6 * (x - y).square().sum() / (20 * (20**2 - 1))
    torch.testing.assert_close(spearman(x, y), textbook)
    tied = spearman(torch.tensor([1.0, 2, 2, 4]), torch.tensor([1.0, 3, 2, 4]))
    assert float(tied) == pytest.approx(0.9486832980505138)


@given(st.integers(0, 500))
def test_spearman_asks_for_order_only_and_lies_within_one(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 15, generator=draw).double()
    torch.testing.assert_close(spearman(x.exp(), y**3), spearman(x, y))
    torch.testing.assert_close(spearman(y, x), spearman(x, y))
    torch.testing.assert_close(spearman(-x, y), -spearman(x, y))
    assert abs(float(spearman(x, y))) <= 1 + 1e-12


def test_true_scores_reach_one_and_their_opposite_minus_one() -> None:
    scores, truth = world()
    torch.testing.assert_close(lds(scores, truth), torch.ones(QUERIES, dtype=torch.float64))
    torch.testing.assert_close(lds(-scores, truth), -torch.ones(QUERIES, dtype=torch.float64))
    own = scores - scores.mean(0)
    torch.testing.assert_close(lds(own, truth, centred=True), torch.ones(QUERIES, dtype=torch.float64))


def test_a_scale_for_every_query_changes_nothing() -> None:
    scores, truth = world(noise=2.0)
    scaled = scores * torch.rand(QUERIES, 1).double().exp()
    torch.testing.assert_close(lds(scaled, truth), lds(scores, truth))
    torch.testing.assert_close(lds(scaled, truth, centred=True), lds(scores, truth, centred=True))


def test_what_moves_all_queries_of_a_model_alike_changes_the_raw_score_only() -> None:
    scores, truth = world(noise=1.0)
    shifted = Truth(truth.kept, truth.losses + 20 * torch.randn(MODELS, 1).double())
    torch.testing.assert_close(lds(scores, shifted, centred=True), lds(scores, truth, centred=True))
    assert not torch.allclose(lds(scores, shifted), lds(scores, truth))


def test_a_score_blind_to_the_query_fools_the_raw_score_and_not_the_centred_one() -> None:
    draw = torch.Generator().manual_seed(1)
    shared = 5 * torch.randn(SONGS, generator=draw).double()
    own, truth = world(seed=2)
    both = Truth(truth.kept, truth.losses - truth.kept.double() @ shared[:, None])
    blind = shared.expand(QUERIES, SONGS)
    assert float(lds(blind, both).mean()) > 0.8
    assert abs(float(lds(blind, both, centred=True).mean())) < 0.2
    assert float(lds(own, both, centred=True).mean()) > 0.8


def test_a_better_method_is_seen_and_an_equal_one_is_not() -> None:
    scores, truth = world(noise=1.0)
    worse = scores + 3 * torch.randn(QUERIES, SONGS, generator=torch.Generator().manual_seed(3)).double()
    for centred in (False, True):
        gap = paired_difference(scores, worse, truth, centred, Bootstrap(resamples=80))
        assert 0 < gap.low < gap.value < gap.high
    same = paired_difference(scores, 2 * scores, truth, bootstrap=Bootstrap(resamples=50))
    assert same.low <= 0 <= same.high
    assert abs(same.value) < 1e-12


def test_the_interval_is_antisymmetric_and_the_same_twice() -> None:
    scores, truth = world(noise=1.0)
    other, few = scores.roll(1, 1), Bootstrap(resamples=50, seed=4)
    there, back = (
        paired_difference(scores, other, truth, bootstrap=few),
        paired_difference(other, scores, truth, False, few),
    )
    assert there == paired_difference(scores, other, truth, bootstrap=few)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_few_models_widen_the_interval_as_few_queries_do() -> None:
    scores, truth = world(noise=4.0)
    other, how = torch.randn(QUERIES, SONGS, generator=torch.Generator().manual_seed(9)).double(), Bootstrap(80)

    def width(queries: int, models: int) -> float:
        part = Truth(truth.kept[:models], truth.losses[:models, :queries])
        found = paired_difference(scores[:queries], other[:queries], part, bootstrap=how)
        return found.high - found.low

    assert width(QUERIES, 8) > width(QUERIES, MODELS)
    assert width(3, MODELS) > width(QUERIES, MODELS)


def test_shapes_that_do_not_fit_are_refused() -> None:
    scores, truth = world()
    with pytest.raises(ValueError, match="scores are"):
        lds(scores[:, :-1], truth)
    with pytest.raises(ValueError, match="m > 1"):
        Truth(truth.kept[:3], truth.losses)
    with pytest.raises(ValueError, match="bool"):
        Truth(truth.kept.double(), truth.losses)
    with pytest.raises(ValueError, match="finite"):
        Truth(truth.kept, truth.losses / 0)
    with pytest.raises(ValueError, match="at least 2"):
        spearman(torch.ones(1), torch.ones(1))
