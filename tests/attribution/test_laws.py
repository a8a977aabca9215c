"""Laws of the whole chain, from segments to ranked songs, on a toy that was really trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from tests.attribution.toy import LINEAR, ToyModel, random_segments, toy, train
from worker.attribution.calibrate import Background, shares, spread
from worker.attribution.curvature import DiagonalFisher, ProjectedCurvature, fisher_diagonal
from worker.attribution.gradients import Request, gradients, grouped
from worker.attribution.influence import RowScale, by_song, first_order, pool, rank, scale_rows
from worker.attribution.measure import Measure, Probe
from worker.attribution.noise import Grid
from worker.attribution.projection import SJLT, pull_back
from worker.attribution.types import Segments
from worker.attribution.unlearn import Step, forget_direction, mirrored, unlearn

SONGS, EACH = 6, 2
Scores = Callable[["World", Segments, Request], Tensor]


@dataclass(frozen=True)
class World:
    """A trained toy, its training segments, and which song each is of."""

    model: ToyModel
    segments: Segments
    song_of: Tensor


@pytest.fixture(scope="module")
def world() -> World:
    """Six songs of two segments; the segments of a song are alike. Trained until it knows them."""
    segments = random_segments(SONGS * EACH, torch.float32, seed=5)
    song_of = torch.arange(SONGS * EACH) // EACH
    alike = segments.latents[song_of * EACH] + 0.3 * segments.latents
    segments = replace(segments, latents=alike)
    model = toy(torch.float32)
    train(model, segments)
    return World(model, segments, song_of)


def request(measure: Measure = Measure.LOSS, batch: int = 24) -> Request:
    return Request(Probe(measure, Grid(7, 16), batch), LINEAR, SJLT(1, 512))


def index_scores(world: World, track: Segments, how: Request) -> Tensor:
    """Song scores [songs] by the index."""
    rows = scale_rows(gradients(world.model, world.segments, how), RowScale.UNIT)
    query = scale_rows(pool(gradients(world.model, track, how), track.music), RowScale.UNIT)
    solved = ProjectedCurvature.fit(rows, 0.1).solve(query)
    return by_song(first_order(rows, solved[None])[0], world.song_of, torch.ones(len(rows)), SONGS)


def unlearn_scores(world: World, track: Segments, how: Request) -> Tensor:
    """Song scores [songs] by finite-step unlearning."""
    diagonal = fisher_diagonal(world.model, world.segments, how.probe, LINEAR)
    direction = forget_direction(world.model, track, how.probe, DiagonalFisher.of(diagonal, 0.1))
    after = unlearn(world.model.params(LINEAR), direction, Step())
    delta = mirrored(world.model, world.segments, how.probe, after)
    return by_song(delta, world.song_of, torch.ones(len(delta)), SONGS)


def noisy_copy(segments: Segments, amount: float) -> Segments:
    noise = torch.randn(segments.latents.shape, generator=torch.Generator().manual_seed(0))
    return replace(segments, latents=segments.latents + amount * noise)


@pytest.mark.parametrize("scores", [index_scores, unlearn_scores])
@pytest.mark.parametrize("amount", [0.0, 0.2])
def test_a_training_segment_ranks_its_own_song_first_clean_and_degraded(
    world: World, scores: Scores, amount: float
) -> None:
    tracks = noisy_copy(world.segments, amount)
    first = [int(rank(scores(world, tracks[i : i + 1], request()))[0]) for i in range(0, len(tracks), 2)]
    assert first == world.song_of[::2].tolist()


@pytest.mark.parametrize("measure", list(Measure))
@pytest.mark.parametrize("scores", [index_scores, unlearn_scores])
def test_the_ranking_is_the_same_at_batch_size_1_and_24(world: World, scores: Scores, measure: Measure) -> None:
    track = random_segments(2, torch.float32, seed=9)
    one, many = (scores(world, track, request(measure, batch)) for batch in (1, 24))
    assert torch.equal(rank(one), rank(many))
    torch.testing.assert_close(one, many, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_asking_twice_gives_the_same_bits(world: World) -> None:
    track = world.segments[:1]
    for scores in (index_scores, unlearn_scores):
        assert torch.equal(scores(world, track, request()), scores(world, track, request()))


def test_the_resident_weights_are_bit_identical_after_everything(world: World) -> None:
    before = {n: p.detach().clone() for n, p in world.model.module.named_parameters()}
    asked = {n: p.requires_grad for n, p in world.model.module.named_parameters()}
    index_scores(world, world.segments[:2], request())
    unlearn_scores(world, world.segments[:2], request())
    for name, parameter in world.model.module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad == asked[name]
        assert parameter.grad is None


def test_padding_changes_no_score(world: World) -> None:
    track = world.segments[1:2]
    spoiled = replace(track, latents=track.latents + 9 * (1 - track.mask[:, None]))
    assert not torch.equal(spoiled.latents, track.latents)
    assert torch.equal(index_scores(world, spoiled, request()), index_scores(world, track, request()))


def test_a_new_song_leaves_the_scores_of_the_others(world: World) -> None:
    how = request()
    more = random_segments(3, torch.float32, seed=11)
    curvature = ProjectedCurvature.fit(gradients(world.model, world.segments, how), 0.1)
    solved = curvature.solve(gradients(world.model, world.segments[:1], how))
    grown = gradients(world.model, Segments.cat([world.segments, more]), how)
    before = first_order(gradients(world.model, world.segments, how), solved)
    torch.testing.assert_close(first_order(grown, solved)[:, : len(world.segments)], before)


def test_one_step_of_the_index_moves_its_top_song_most(world: World) -> None:
    how, track = request(), world.segments[4:5]
    rows = gradients(world.model, world.segments, how)
    solved = ProjectedCurvature.fit(rows, 0.1).solve(gradients(world.model, track, how))[0]
    params = world.model.params(LINEAR)
    after = unlearn(params, pull_back(how.projection, solved, params), Step(1e-4))
    delta = mirrored(world.model, world.segments, how.probe, after)
    assert int(delta.argmax()) == int((rows @ solved).argmax()) == 4


def test_more_draws_bring_the_groups_together(world: World) -> None:
    def cosine(draws: int) -> float:
        how = request()
        request_ = replace(how, probe=replace(how.probe, grid=Grid(7, draws)))
        even, odd = grouped(world.model, world.segments, request_, 2)
        return float(torch.cosine_similarity(even, odd).mean())

    assert cosine(64) > cosine(4)


def test_a_copied_song_gets_a_share_and_the_rest_is_said(world: World) -> None:
    tracks = random_segments(20, torch.float32, seed=21)
    unrelated = [index_scores(world, tracks[i : i + 1], request()) for i in range(len(tracks))]
    background = Background(torch.stack(unrelated))
    scores = index_scores(world, world.segments[2:3], request())
    found = shares(scores, spread(scores, scores.repeat(4, 1)), background)
    assert int(found.shares.argmax()) == 1
    assert float(background.percentile(scores)[1]) == 100
    assert float(found.shares.sum()) + found.unattributed == pytest.approx(1)
