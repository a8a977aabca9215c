"""A finite step tends to its first order, forgets what it is told to, and leaves θ₀ alone."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tests.attribution.toy import LINEAR, ToyModel, probe, random_segments, toy
from worker.attribution.curvature import DiagonalFisher, ProjectedCurvature, fisher_diagonal
from worker.attribution.gradients import Request, gradients, mean_gradient
from worker.attribution.influence import RowScale, first_order, pool, scale_rows
from worker.attribution.measure import Measure, Probe, values
from worker.attribution.projection import SJLT, Identity, pull_back
from worker.attribution.types import Params, Segments
from worker.attribution.unlearn import Step, change, forget_direction, mirrored, step_length, unlearn

MEASURES = list(Measure)
SONGS, TRACK = random_segments(6, seed=1), random_segments(3, seed=2)


def rate(model: ToyModel, direction: Params, one: Probe, relative: float) -> Tensor:
    """Δ / η of every song: the slope that a step of this length sees."""
    step, params = Step(relative), model.params(LINEAR)
    delta = mirrored(model, SONGS, one, unlearn(params, direction, step))
    return delta / step_length(params, direction, step)


def assert_tends_to(model: ToyModel, direction: Params, one: Probe, slope: Tensor) -> None:
    errors = [float((rate(model, direction, one, r) - slope).norm() / slope.norm()) for r in (1e-2, 1e-3, 1e-4, 1e-5)]
    assert errors[3] < 5e-3
    for coarse, fine in pairwise(errors):
        assert fine < coarse / 5  # the error is of the next order: a tenth of the step, a tenth of the error


@pytest.mark.parametrize("measure", MEASURES)
def test_steps_by_the_diagonal_fisher_tend_to_their_first_order(measure: Measure) -> None:
    model, one = toy(), probe(measure)
    fisher = DiagonalFisher.of(fisher_diagonal(model, SONGS, one, LINEAR), 0.1)
    direction = forget_direction(model, TRACK, one, fisher)
    rows = gradients(model, SONGS, Request(one, LINEAR, Identity.of(model.params(LINEAR))))
    flat = torch.cat([direction[name].flatten() for name in model.params(LINEAR)])
    assert_tends_to(model, direction, one, rows @ flat)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("scale", list(RowScale))
def test_steps_pulled_back_from_the_index_tend_to_its_scores(measure: Measure, scale: RowScale) -> None:
    model, one, sketch = toy(), probe(measure), SJLT(4, 128, 2)
    request = Request(one, LINEAR, sketch)
    raw = gradients(model, SONGS, request)
    rows = scale_rows(raw, scale)
    query = scale_rows(pool(gradients(model, TRACK, request), TRACK.music), scale)
    solved = ProjectedCurvature.fit(rows, 0.1).solve(query)
    direction = pull_back(sketch, solved, model.params(LINEAR))
    length = raw.norm(dim=1) if scale is RowScale.UNIT else torch.ones(len(raw), dtype=raw.dtype)
    assert_tends_to(model, direction, one, first_order(rows, solved[None])[0] * length)


def test_single_precision_still_sees_a_step_of_a_thousandth() -> None:
    exact, single, one = toy(), toy(torch.float32), probe(draws=16)
    fisher = DiagonalFisher.of(fisher_diagonal(exact, SONGS, one, LINEAR), 0.1)
    direction = forget_direction(exact, TRACK, one, fisher)
    after = unlearn(exact.params(LINEAR), direction, Step())
    expected = mirrored(exact, SONGS, one, after)
    found = mirrored(single, random_segments(6, torch.float32), one, {n: p.float() for n, p in after.items()})
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_track_itself_is_forgotten(measure: Measure) -> None:
    model, one = toy(), probe(measure)
    fisher = DiagonalFisher.of(fisher_diagonal(model, SONGS, one, LINEAR), 0.1)
    after = unlearn(model.params(LINEAR), forget_direction(model, TRACK, one, fisher), Step())
    share = TRACK.music.double() / TRACK.music.sum()
    assert float((share * mirrored(model, TRACK, one, after)).sum()) > 0


@pytest.mark.parametrize("relative", [1e-4, 1e-3, 1e-1])
def test_the_step_is_as_long_as_stated(relative: float) -> None:
    params = {"a": torch.randn(3, 4, dtype=torch.float64), "b": torch.randn(5, dtype=torch.float64)}
    moved = unlearn(params, {n: torch.randn_like(p) for n, p in params.items()}, Step(relative))
    gone = torch.cat([(moved[n] - params[n]).flatten() for n in params]).norm()
    here = torch.cat([p.flatten() for p in params.values()]).norm()
    assert float(gone / here) == pytest.approx(relative)


def test_weights_are_read_and_never_written() -> None:
    model, one = toy(), probe()
    before = {n: p.detach().clone() for n, p in model.module.named_parameters()}
    after = unlearn(model.params(LINEAR), mean_gradient(model, TRACK, one, LINEAR), Step(0.1))
    mirrored(model, SONGS, one, after)
    for tensor in after.values():
        tensor.zero_()
    assert all(torch.equal(p, before[n]) for n, p in model.module.named_parameters())


def test_change_is_paired_by_draw_and_reports_both_passes() -> None:
    model, one, heard = toy(), probe(draws=4, batch=4), []
    after = unlearn(model.params(LINEAR), mean_gradient(model, TRACK, one, LINEAR), Step())
    found = mirrored(model, SONGS, one, after, heard.append)
    draws = values(model, after, SONGS, one) - values(model, {}, SONGS, one)
    torch.testing.assert_close(found, draws.mean(1))
    assert heard == sorted(heard)
    assert heard[-1] == 1
    with pytest.raises(ValueError, match="different draws"):
        change(draws, draws[:, :2])


def test_padding_never_changes_what_is_forgotten_or_measured() -> None:
    model, one = toy(), probe()
    fisher = DiagonalFisher.of(fisher_diagonal(model, SONGS, one, LINEAR), 0.1)

    def spoil(segments: Segments) -> Segments:
        noise = 50 * torch.randn_like(segments.latents) * (1 - segments.mask[:, None])
        return Segments(segments.latents + noise, segments.mask, segments.cond)

    clean, spoiled = (forget_direction(model, track, one, fisher) for track in (TRACK, spoil(TRACK)))
    assert all(torch.equal(clean[n], spoiled[n]) for n in clean)
    after = unlearn(model.params(LINEAR), clean, Step())
    assert torch.equal(mirrored(model, SONGS, one, after), mirrored(model, spoil(SONGS), one, after))


def test_steps_to_nowhere_are_refused() -> None:
    params = {"a": torch.ones(2)}
    for direction in ({"a": torch.zeros(2)}, {"a": torch.full((2,), torch.nan)}):
        with pytest.raises(ValueError, match="no direction"):
            unlearn(params, direction, Step())
    with pytest.raises(ValueError, match="do not fit"):
        unlearn(params, {"a": torch.ones(3)}, Step())
    for relative in (0.0, -1e-3, 1.0, float("nan")):
        with pytest.raises(ValueError, match="relative"):
            Step(relative)
