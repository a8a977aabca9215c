"""Rows equal a loop, the dual equals the primal, DAS equals explicit Jacobians, and files keep what they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from bench.faithfulness.das import das_scores, directions, jacobian_products
from bench.faithfulness.gradient_methods import (
    METHODS,
    Estimator,
    diagonal_first_order,
    kernel_of_rows,
    kernel_scores,
    projected,
    segment_scores,
    song_scores,
    thresholded,
)
from bench.faithfulness.gradients_draws import Autocast, Draws
from bench.faithfulness.gradients_gram import Gram, Grams, Kernel, gram, grouped_grams
from bench.faithfulness.gradients_rows import Rows, band_rows, hashed, slices_of, spans_of
from tests.attribution.toy import CHANNELS, FRAMES, looped, random_segments, toy
from worker.attribution.curvature import DiagonalFisher
from worker.attribution.gradients import Request, gradients
from worker.attribution.measure import Measure, Probe, diffuse
from worker.attribution.noise import Grid
from worker.attribution.projection import SJLT, Identity
from worker.shards import Bytes

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = r"^(to_[qkvo]|up|down)\.weight$"
HOW = Rows(WEIGHTS, batch=5)
CPU = torch.device("cpu")
SONG = torch.tensor([0, 0, 1, 2, 2, 2])


def draws(count: int) -> Draws:
    return Draws.of(Grid(3, count), (CHANNELS, FRAMES), CPU)


def random_rows(seed: int = 0, bands: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return (torch.randn(bands, count, 40, generator=source, dtype=torch.float64) for count in (6, 3))


def random_grams(seed: int = 0) -> tuple[Grams, torch.Tensor, torch.Tensor]:
    songs, queries = random_rows(seed)
    return Grams({"loss": gram(songs, queries)}, SONG, torch.ones(6), 3), songs, queries


def test_bands_are_equal_and_ordered_and_hold_every_draw_of_the_grid_once() -> None:
    bands, grid = draws(8).bands(4), Grid(3, 8)
    levels = torch.stack([band.levels() for band in bands])
    assert torch.equal(levels.flatten(), grid.levels().sort().values)
    noise = torch.cat([band.noise((CHANNELS, FRAMES)) for band in bands])
    assert torch.equal(noise[levels.flatten().argsort()], grid.noise((CHANNELS, FRAMES))[grid.levels().argsort()])
    with pytest.raises(ValueError, match="equal bands"):
        draws(7).bands(4)
    with pytest.raises(ValueError, match="shape"):
        draws(2).noise((1, 1))


@pytest.mark.parametrize("measure", list(Measure))
def test_band_rows_equal_a_loop_and_their_mean_is_the_gradient_over_all_draws(measure: Measure) -> None:
    model, segments = toy(), random_segments(3)
    found = band_rows(model, segments, measure, draws(8).bands(2), HOW)
    order = Grid(3, 8).levels().argsort().tolist()
    for band, places in zip(found, (order[:4], order[4:]), strict=True):
        loops = [looped(model, segments, Probe(measure, Grid(3, 1, first=d), 1), WEIGHTS) for d in places]
        torch.testing.assert_close(band, torch.stack(loops).mean(0))
    whole = Request(Probe(measure, Grid(3, 8)), WEIGHTS, Identity.of(model.params(WEIGHTS)))
    torch.testing.assert_close(found.mean(0), gradients(model, segments, whole))


def test_half_precision_passes_give_nearly_the_same_rows_in_single_precision() -> None:
    model, segments = toy(torch.float32), random_segments(3, torch.float32)
    exact, half = (band_rows(m, segments, Measure.LOSS, draws(8).bands(2), HOW) for m in (model, Autocast(model)))
    assert half.dtype is torch.float32
    assert not torch.equal(half, exact)
    assert float((half - exact).norm() / exact.norm()) < 0.03


def test_hashed_rows_are_the_projected_gradients() -> None:
    model, segments, sketch = toy(), random_segments(3), SJLT(7, 32, nonzeros=2)
    spans = spans_of(model, WEIGHTS)
    rows = band_rows(model, segments, Measure.LOSS, draws(4).bands(2), HOW)
    found = hashed(rows, slices_of(sketch, spans, CPU), spans)
    expected = gradients(model, segments, Request(Probe(Measure.LOSS, Grid(3, 4)), WEIGHTS, sketch))
    assert found.shape == (2, 3, 32)
    torch.testing.assert_close(found.mean(0), expected)


def test_a_gram_is_the_inner_products_of_an_autograd_loop() -> None:
    model, songs, queries = toy(), random_segments(4), random_segments(2, seed=9)
    rows = [band_rows(model, x, Measure.LOSS, draws(4).bands(2), HOW) for x in (songs, queries)]
    kernel = gram(*rows, spans_of(model, WEIGHTS)).kernel()
    g, r = (looped(model, x, Probe(Measure.LOSS, Grid(3, 4), 4), WEIGHTS) for x in (songs, queries))
    for found, expected in ((kernel.songs, g @ g.mT), (kernel.cross, r @ g.mT), (kernel.queries, (r * r).sum(1))):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_a_gram_can_weigh_its_bands() -> None:
    songs, queries = random_rows()
    weights = torch.tensor([0.3, -2.0], dtype=torch.float64)
    kernel = gram(songs, queries).kernel(weights)
    g, r = (torch.einsum("a,aip->ip", weights, x) for x in (songs, queries))
    torch.testing.assert_close(kernel.songs, g @ g.mT, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kernel.cross, r @ g.mT, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kernel.queries, (r * r).sum(1), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="as many weights"):
        gram(songs, queries).kernel(torch.ones(3))


def test_the_parts_of_the_blocks_add_up_to_the_whole() -> None:
    songs, queries = random_rows()
    spans = {"transformer_blocks.0.attn1.to_q.weight": (0, 9), "transformer_blocks.0.attn1.to_k.weight": (9, 20)}
    spans |= {"transformer_blocks.1.ff.net.2.weight": (20, 36), "proj_out.weight": (36, 40)}
    parts = grouped_grams(songs, queries, spans)
    assert list(parts) == ["0.attn1", "1.ff", "rest"]
    total, whole = sum(p.songs for p in parts.values()), gram(songs, queries, spans).mean().songs
    torch.testing.assert_close(total, whole, rtol=1e-5, atol=1e-5)


def test_a_file_keeps_inner_products_to_half_precision_of_the_lengths(tmp_path: Path) -> None:
    grams, songs, queries = random_grams()
    scaled = gram(songs * torch.logspace(-6, 6, 6)[:, None], queries)
    silent = gram(songs * torch.arange(6)[:, None], queries)
    Grams({"loss": grams.named["loss"]}, SONG, torch.ones(6), 3).save(tmp_path / "a")
    Grams({"wide": scaled, "silent": silent}, SONG, torch.ones(6), 3).save(tmp_path / "b")
    found = Grams.load(tmp_path / "a", tmp_path / "b")
    assert list(found.named) == ["loss", "wide", "silent"]
    for name, expected in (("loss", grams.named["loss"]), ("wide", scaled), ("silent", silent)):
        kernels = [one.kernel().unit() for one in (found.named[name], expected)]
        torch.testing.assert_close(kernels[0].songs, kernels[1].songs, rtol=0, atol=2e-3)
        torch.testing.assert_close(kernels[0].cross, kernels[1].cross, rtol=0, atol=2e-3)
        torch.testing.assert_close(found.named[name].queries, expected.queries)
    Grams({}, SONG.flip(0), torch.ones(6), 3).save(tmp_path / "c")
    with pytest.raises(ValueError, match="different"):
        Grams.load(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("unit", [False, True])
def test_the_dual_equals_the_primal(unit: bool) -> None:
    grams, songs, queries = random_grams()
    g, r = songs.mean(0), queries.mean(0)
    if unit:
        g, r = (x / x.norm(dim=1, keepdim=True) for x in (g, r))
    floor = 0.3 * (g @ g.mT).diagonal().mean()
    primal = r @ torch.linalg.solve(g.mT @ g + floor * torch.eye(40, dtype=torch.float64), g.mT)
    found = segment_scores(grams, Estimator("loss", damping=0.3, unit=unit))
    torch.testing.assert_close(found, primal, rtol=1e-4, atol=1e-6)
    by_song = torch.stack([primal[:, s == SONG].sum(1) for s in range(3)], 1).float()
    torch.testing.assert_close(kernel_scores(grams, "loss", 0.3, unit), by_song, rtol=1e-4, atol=1e-6)


def test_plain_methods_are_dots_and_cosines_and_undamped_division_is_refused() -> None:
    grams, songs, queries = random_grams()
    g, r = songs.mean(0), queries.mean(0)
    torch.testing.assert_close(segment_scores(grams, METHODS["gradient-dot"]), r @ g.mT, rtol=1e-5, atol=1e-6)
    cosine = torch.nn.functional.cosine_similarity(r[:, None], g, dim=2)
    torch.testing.assert_close(segment_scores(grams, METHODS["gradient-cosine"]), cosine, rtol=1e-5, atol=1e-6)
    for damping in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="undamped"):
            kernel_scores(grams, "loss", damping)


def test_a_method_on_projected_rows_reads_the_projections_inner_products() -> None:
    songs, queries = random_rows()
    method = projected(METHODS["d-trak-v"], 32, 4)
    assert method.measure == "squared_output@32-4"
    grams = Grams({method.measure: gram(songs, queries).mean()}, SONG, torch.ones(6), 3)
    whole = Grams({"squared_output": gram(songs, queries)}, SONG, torch.ones(6), 3)
    torch.testing.assert_close(song_scores(grams, method), song_scores(whole, METHODS["d-trak-v"]))


def test_kept_bytes_give_the_projections_inner_products_nearly() -> None:
    songs, queries = (x.float() for x in random_rows())
    found = kernel_of_rows(Bytes.of(songs), Bytes.of(queries))
    expected = gram(songs, queries).kernel()
    torch.testing.assert_close(found.songs, expected.songs, rtol=0.02, atol=0.2)
    torch.testing.assert_close(found.cross, expected.cross, rtol=0.02, atol=0.2)


def test_thresholding_keeps_the_largest_in_size_query_by_query() -> None:
    scores = torch.tensor([[3.0, -5.0, 1.0, 0.5], [0.1, 0.2, 0.3, -0.4]])
    hard = thresholded(scores, 0.5)
    assert torch.equal(hard, torch.tensor([[3.0, -5.0, 0, 0], [0, 0, 0.3, -0.4]]))
    soft = thresholded(scores, 0.5, soft=True)
    torch.testing.assert_close(soft, torch.tensor([[2.0, -4.0, 0, 0], [0, 0, 0.1, -0.2]]))
    assert torch.equal(thresholded(scores, 1.0), scores)
    with pytest.raises(ValueError, match="fraction"):
        thresholded(scores, 0.0)


def test_the_diagonal_first_order_is_the_inner_product_with_the_forgetting_direction() -> None:
    songs, queries = (x.mean(0) for x in random_rows())
    diagonal = torch.rand(40, dtype=torch.float64)
    fisher = DiagonalFisher.of({"w": diagonal}, 0.1)
    expected = [[float(g @ fisher.direction({"w": r})["w"]) for g in songs] for r in queries]
    found = diagonal_first_order(songs, queries, diagonal, 0.1)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def jacobians(query: int) -> torch.Tensor:
    """The oracle: ∂v/∂θ of every draw of one query, masked and scaled as DAS takes it: [draws, c · f, p]."""
    model, segment = toy(), random_segments(3)[query : query + 1]
    samples = diffuse(segment, draws(4).sorted())
    params = dict(model.params(WEIGHTS))

    def outputs(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        v = model.output(weights, samples.noisy, samples.level, samples.cond)
        return (v * samples.mask[:, None]).flatten(1) / (CHANNELS * samples.mask.sum(1, keepdim=True)).sqrt()

    found = torch.func.jacrev(outputs)(params)
    return torch.cat([found[name].flatten(2) for name in params], 2)


@pytest.mark.parametrize("groups", [2, 4])
def test_das_products_equal_explicit_jacobians(groups: int) -> None:
    model, queries, spans = toy(), random_segments(3), spans_of(toy(), WEIGHTS)
    rows = looped(model, random_segments(5, seed=2), Probe(Measure.LOSS, Grid(3, 2), 2), WEIGHTS)
    plan = (draws(4).sorted(), groups, Rows(WEIGHTS, batch=8))
    found = jacobian_products(model, queries, rows, spans, plan)
    xi = directions(4, (CHANNELS, FRAMES)).double().flatten(1)
    for query in range(3):
        u = torch.einsum("do,dop->dp", xi, jacobians(query)).view(groups, -1, rows.shape[1]).sum(1) / 4**0.5
        torch.testing.assert_close(found[query], u @ rows.mT)
    with pytest.raises(ValueError, match="equal groups"):
        jacobian_products(model, queries, rows, spans, (draws(4), 3, HOW))


def test_das_is_the_mean_square_of_the_change_of_the_output() -> None:
    jacobian, damping = jacobians(0), 0.2
    rows = looped(toy(), random_segments(5, seed=2), Probe(Measure.LOSS, Grid(3, 2), 2), WEIGHTS)
    kernel = rows @ rows.mT
    curvature = rows.mT @ rows + damping * kernel.diagonal().mean() * torch.eye(rows.shape[1], dtype=torch.float64)
    step = torch.linalg.solve(curvature, rows.mT)
    expected = (jacobian @ step).square().sum(1).mean(0)
    song = torch.tensor([0, 0, 1, 1, 1])
    whole = torch.stack([(jacobian @ step[:, song == s].sum(1)).square().sum(1).mean() for s in range(2)])
    # All basis vectors in place of random directions: the sum over them is the norm itself.
    products = (jacobian @ rows.mT).flatten(0, 1)[None] / 2
    loss = Kernel(kernel, torch.empty(0), torch.empty(0))
    torch.testing.assert_close(das_scores(products, loss, damping)[0], expected)
    torch.testing.assert_close(das_scores(products, loss, damping, song)[0], whole)
    # Random signs, grouped by two draws, estimate the same.
    source = torch.Generator().manual_seed(0)
    xi = torch.randint(0, 2, (4000, *jacobian.shape[:2]), generator=source).double() * 2 - 1
    u = torch.einsum("rdo,dop->rdp", xi, jacobian).view(4000, 2, 2, -1).sum(2) / 4**0.5
    mean = das_scores(u @ rows.mT, loss, damping).mean(0)
    torch.testing.assert_close(mean, expected, rtol=0.1, atol=0)


def test_das_refuses_undamped_division() -> None:
    with pytest.raises(ValueError, match="undamped"):
        das_scores(torch.ones(1, 1, 2), Kernel(torch.eye(2), torch.empty(0), torch.empty(0)), 0.0)


def test_grams_of_one_measure_add() -> None:
    songs, queries = random_rows()
    one = gram(songs, queries)
    both = one + Gram(one.songs, one.cross, one.queries)
    torch.testing.assert_close(both.kernel().songs, 2 * one.kernel().songs)
