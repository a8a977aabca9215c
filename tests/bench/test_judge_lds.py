"""The fast LDS, its intervals, ceilings and tuning are right where the truth is known."""

import pytest
import torch
from torch import Tensor

from bench.faithfulness.judge.lds import KINDS, board, plain
from bench.faithfulness.judge.resample import Resamples
from bench.faithfulness.judge.truth import (
    Family,
    Query,
    ceilings,
    clusters,
    dimension,
    grouped,
    panel,
    reliability,
    shared_by_others,
)
from bench.faithfulness.judge.tuning import edges, settings, tune, unequal
from worker.attribution.evaluate import Bootstrap, lds, paired_difference

QUERIES, SONGS, SUBSETS = 20, 40, 32
FEW = Bootstrap(resamples=40, seed=4)


def world(noise: float = 1.0, shared: float = 0.0, seed: int = 0, sizes: tuple[int, ...] = ()) -> tuple[Tensor, Family]:
    """Losses that are linear in the songs kept, the queries' part and one of all, measured under two noisy seeds."""
    queries, songs, subsets = sizes or (QUERIES, SONGS, SUBSETS)
    draw = torch.Generator().manual_seed(seed)
    own = torch.randn(queries, songs, generator=draw, dtype=torch.float64)
    true = own + shared * torch.randn(songs, generator=draw, dtype=torch.float64)
    kept = torch.rand(subsets, songs, generator=draw) < 0.5
    clean = 7 - kept.double() @ true.mT / songs**0.5
    seeds = [clean + noise * torch.randn(clean.shape, generator=draw, dtype=torch.float64) for _ in range(2)]
    return true, Family(kept, torch.arange(subsets), torch.stack(seeds))


def rivals(true: Tensor) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(99)
    noisy = true + torch.randn(true.shape, generator=draw, dtype=torch.float64)
    counts = (torch.rand(true.shape, generator=draw) < 0.2).double()
    return {"true": true, "noisy": noisy, "counts": counts, "nothing": torch.zeros_like(true)}


def test_the_fast_lds_is_the_plain_one_for_every_query() -> None:
    true, family = world(shared=1.0)
    resamples = Resamples.draw(torch.arange(QUERIES), SUBSETS, FEW)
    judged = board(family, rivals(true), resamples)
    for name, scores in rivals(true).items():
        for kind in KINDS:
            expected = lds(scores, family.truth, kind == "centred")
            torch.testing.assert_close(judged.scored[kind][name].by_query[:, 0], expected)
            assert plain(family, scores)[kind] == pytest.approx(float(expected.mean()), abs=1e-12)


def test_the_fast_interval_of_a_difference_is_the_plain_one() -> None:
    true, family = world(shared=1.0)
    judged = board(family, rivals(true), Resamples.draw(torch.arange(QUERIES), SUBSETS, FEW))
    for other in ("noisy", "counts"):
        for kind in KINDS:
            slow = paired_difference(true, rivals(true)[other], family.truth, kind == "centred", FEW)
            assert vars(judged.difference(kind, "true", other)) == pytest.approx(vars(slow), abs=1e-9)


def test_an_interval_holds_its_value_and_a_difference_to_itself_is_nothing() -> None:
    true, family = world()
    judged = board(family, rivals(true), Resamples.draw(torch.arange(QUERIES), SUBSETS, FEW))
    one = judged.interval("raw", "noisy")
    assert one.low < one.value < one.high
    assert vars(judged.difference("raw", "noisy", "noisy")) == {"value": 0, "low": 0, "high": 0}
    assert vars(judged.interval("centred", "nothing")) == {"value": 0, "low": 0, "high": 0}


def test_projection_seeds_are_averaged_and_told_apart() -> None:
    true, family = world()
    noisy = {f"hash@seed{n}": true + torch.randn(true.shape, generator=torch.manual_seed(n)) for n in range(3)}
    judged = board(family, noisy, Resamples.draw(torch.arange(QUERIES), SUBSETS, FEW)).scored["raw"]["hash"]
    each = [float(lds(scores, family.truth).mean()) for scores in noisy.values()]
    assert judged.by_seed == pytest.approx(each)
    assert float(judged.by_query[:, 0].mean()) == pytest.approx(sum(each) / 3)


def test_queries_that_were_not_asked_do_not_count_and_pairs_are_compared_on_those_that_were() -> None:
    true, family = world()
    some = rivals(true)["noisy"].clone()
    some[5:] = torch.nan
    judged = board(family, {"true": true, "some": some}, Resamples.draw(torch.arange(QUERIES), SUBSETS, FEW))
    assert judged.scored["raw"]["some"].asked == 5
    gap = lds(true, family.truth)[:5] - lds(rivals(true)["noisy"], family.truth)[:5]
    assert judged.difference("raw", "true", "some").value == pytest.approx(float(gap.mean()))


def test_windows_of_one_recording_are_drawn_together_and_widen_the_interval() -> None:
    true, family = world(noise=2.0)
    twice = Family(family.kept, family.number, family.losses.repeat_interleave(3, 2))
    scores = {"it": rivals(true)["noisy"].repeat_interleave(3, 0)}
    pairs = torch.arange(QUERIES).repeat_interleave(3)
    apart = torch.arange(3 * QUERIES)
    width = {}
    for name, how in (("together", pairs), ("apart", apart)):
        found = board(twice, scores, Resamples.draw(how, SUBSETS, Bootstrap(300))).interval("raw", "it")
        width[name] = found.high - found.low
    assert width["together"] > 1.1 * width["apart"]
    drawn = Resamples.draw(pairs, SUBSETS, FEW).queries
    assert torch.equal(drawn[:, ::3], drawn[:, 1::3])


def test_the_true_scores_reach_the_ceiling_and_less_their_mean_the_centred_one() -> None:
    true, family = world(noise=0.5, shared=0.7, sizes=(40, 60, 400))
    resamples = Resamples.draw(torch.arange(40), 400, Bootstrap(2))
    tops = ceilings(family, resamples)
    judged = board(family, {"raw": true, "centred": true - true.mean(0)}, resamples)
    for kind in KINDS:
        assert 0.6 < tops[kind].ceiling.value < 0.95
        assert judged.interval(kind, kind).value == pytest.approx(tops[kind].ceiling.value, abs=0.015)
    assert judged.interval("centred", "raw").value < 0.9 * tops["centred"].ceiling.value


def test_without_noise_seeds_agree_and_with_noise_alone_they_do_not() -> None:
    _, same = world(noise=0.0)
    once = Resamples.draw(torch.arange(QUERIES), SUBSETS, FEW)
    torch.testing.assert_close(reliability(same, once, False), torch.ones(41, dtype=torch.float64))
    _, noise = world(noise=100.0, sizes=(30, SONGS, 100))
    found = ceilings(noise, Resamples.draw(torch.arange(30), 100, FEW))["raw"]
    assert abs(found.reliability.value) < 0.1
    one_seed = Family(same.kept, same.number, same.losses[:1])
    assert ceilings(one_seed, once) == {}
    with pytest.raises(ValueError, match="one seed"):
        reliability(one_seed, once, False)


def test_losses_that_move_together_have_few_dimensions() -> None:
    _, apart = world(noise=0.0, sizes=(8, 400, 300))
    _, together = world(noise=0.0, shared=10.0, sizes=(8, 400, 300))
    assert dimension(apart) > 6
    assert dimension(together) < 1.2
    assert shared_by_others(together) > 0.9 > 0.3 > shared_by_others(apart)


def test_seeds_of_a_subset_meet_and_half_measured_subsets_are_left_out() -> None:
    kept = torch.tensor([[1, 0], [0, 1], [1, 0], [1, 1]]).bool()
    losses = torch.arange(8.0).view(4, 2)
    family = grouped(kept, torch.tensor([7, 3, 7, 9]), torch.tensor([2, 1, 1, 1]), losses)
    assert family.number.tolist() == [7]
    assert family.losses.tolist() == [[[4.0, 5.0]], [[0.0, 1.0]]]
    with pytest.raises(ValueError, match="differ from seed to seed"):
        grouped(kept[:2], torch.tensor([3, 3]), torch.tensor([1, 2]), losses[:2])
    with pytest.raises(ValueError, match="under every seed"):
        grouped(kept[:2], torch.tensor([3, 4]), torch.tensor([1, 2]), losses[:2])


def test_panels_and_splits_are_disjoint_and_recordings_cluster() -> None:
    rows = (
        Query("a", "generated", "caption", "tune", "x"),
        Query("b", "generated", "caption", "test", "x"),
        Query("c-0", "held_out", "caption", "test", "x", song="c"),
        Query("c-2", "held_out", "caption", "test", "x", song="c"),
        Query("c-0-null", "held_out", "null", "test", song="c"),
    )
    assert [panel(rows, "generated", s).tolist() for s in ("tune", "test", None)] == [[0], [1], [0, 1]]
    assert panel(rows, "held_out", "test").tolist() == [2, 3]
    assert panel(rows, "held_out_null", "test").tolist() == [4]
    assert clusters(rows, torch.tensor([0, 1, 2, 3])).tolist() == [0, 1, 2, 2]


def test_subsets_that_were_tuned_on_are_told_apart_by_their_songs() -> None:
    _, family = world()
    assert family.unlike(family.subsets(torch.arange(5))).tolist() == [False] * 5 + [True] * (SUBSETS - 5)


def test_tuning_takes_the_best_logs_all_and_sees_edges() -> None:
    true, family = world()
    noise = torch.randn(true.shape, generator=torch.manual_seed(5), dtype=torch.float64)
    variants = {f"damping={d},measure=loss": [true + d * noise] for d in (0.1, 1.0, 10.0)}
    found = tune(family, variants)
    assert found.chosen == "damping=0.1,measure=loss"
    assert found.edges == ("damping",)
    assert found.log["variants"] == 3
    reached = [t.objective for t in found.tried]
    assert reached == sorted(reached, reverse=True)
    expected = [float(lds(true + 0.1 * noise, family.truth, centred).mean()) for centred in (False, True)]
    assert reached[0] == pytest.approx(sum(expected) / 2)


def test_an_optimum_between_others_is_no_edge_and_words_have_none() -> None:
    names = ["damping=0.1,measure=loss", "damping=1,measure=loss", "damping=10,measure=squared"]
    assert settings(names[0]) == {"damping": 0.1, "measure": "loss"}
    assert edges(names[1], names) == ()
    assert edges(names[2], names) == ("damping",)
    assert edges("plain", ["plain"]) == ()


def test_variants_are_judged_on_the_queries_they_share_and_budgets_compared() -> None:
    true, family = world()
    part = true.clone()
    part[10:] = torch.nan
    found = tune(family, {"step=1": [true], "step=2": [part]})
    assert found.queries == 10
    assert found.tried[0].objective == found.tried[1].objective
    assert unequal({"a": found, "b": found}) == {}
    assert unequal({"a": found, "b": tune(family, {"only": [true]})}) == {"a": 2, "b": 1}
    with pytest.raises(ValueError, match="fewer than two"):
        tune(family, {"step=1": [true], "step=2": [torch.full_like(true, torch.nan)]})


def test_scores_of_other_songs_are_refused() -> None:
    true, family = world()
    with pytest.raises(ValueError, match="scores of short"):
        board(family, {"short": true[:, 1:]}, Resamples.draw(torch.arange(QUERIES), SUBSETS, FEW))
