"""Hooks equal a loop, and leave no trace."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.attribution.toy import (
    CHANNELS,
    LINEAR,
    ToyModel,
    looped,
    probe,
    random_segments,
    toy,
)
from worker.attribution.gradients import Request, exactly, gradients, gradients_each, grouped, mean_gradient
from worker.attribution.hooks import UnsupportedWeight
from worker.attribution.measure import Measure, Probe, profile
from worker.attribution.noise import Grid
from worker.attribution.projection import SJLT, Identity
from worker.attribution.types import Conditioning

MEASURES = list(Measure)
SELECTIONS = [
    LINEAR,
    r"^to_[kv]\.",
    r"^(time|global_)\.",
    r"^(pre|smooth)\.",
    r"\.bias$(?<!norm\.bias)",
    r"^down\.weight$",
]


def whole(model: ToyModel, weights: str, one: Probe) -> Request:
    return Request(one, weights, Identity.of(model.params(weights)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("weights", SELECTIONS)
def test_hooks_equal_a_loop(measure: Measure, weights: str) -> None:
    model, segments, one = toy(), random_segments(5), probe(measure, draws=4, batch=8)
    found = gradients(model, segments, whole(model, weights, one))
    torch.testing.assert_close(found, looped(model, segments, one, weights))


@pytest.mark.parametrize("measure", MEASURES)
def test_hooks_equal_a_loop_in_single_precision(measure: Measure) -> None:
    model, segments, one = toy(torch.float32), random_segments(3, torch.float32), probe(measure)
    found = gradients(model, segments, whole(model, LINEAR, one))
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, looped(model, segments, one, LINEAR), rtol=1e-4, atol=1e-5)


def test_the_batch_changes_nothing_but_rounding() -> None:
    model, segments = toy(), random_segments(5)
    rows = [gradients(model, segments, whole(model, LINEAR, probe(draws=7, batch=b))) for b in (1, 5, 7, 24, 100)]
    for other in rows[1:]:
        torch.testing.assert_close(other, rows[0])


def test_projecting_inside_the_hook_equals_projecting_the_loop() -> None:
    model, segments, one = toy(), random_segments(3), probe(draws=3)
    sketch, params = SJLT(7, 32, nonzeros=2), model.params(LINEAR)
    full = looped(model, segments, one, LINEAR).split([p.numel() for p in params.values()], 1)
    slices = [sketch.slice(n, p.numel(), model.device) for n, p in params.items()]
    expected = sum(s.project(x) for s, x in zip(slices, full, strict=True))
    torch.testing.assert_close(gradients(model, segments, Request(one, LINEAR, sketch)), expected)


def test_groups_are_disjoint_sets_of_draws_and_average_to_the_whole() -> None:
    model, segments = toy(), random_segments(3)
    request = whole(model, LINEAR, probe(draws=6))
    both = grouped(model, segments, request, 2)
    even = replace(request.probe, grid=Grid(3, 3, first=0, step=2))
    torch.testing.assert_close(both[0], gradients(model, segments, replace(request, probe=even)))
    torch.testing.assert_close(both.mean(0), gradients(model, segments, request))
    assert not torch.allclose(both[0], both[1])


def test_the_gradient_of_a_track_is_the_mean_of_its_segments_by_music() -> None:
    model, segments, one = toy(), random_segments(5), probe(draws=4, batch=6)
    found = mean_gradient(model, segments, one, LINEAR)
    rows = looped(model, segments, one, LINEAR)
    expected = (segments.music[:, None] * rows).sum(0) / segments.music.sum()
    torch.testing.assert_close(torch.cat([g.flatten() for g in found.values()]), expected)


def test_the_gradient_of_a_track_serves_any_weight_even_an_unused_one() -> None:
    model = toy()
    model.module.register_parameter("idle", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    found = mean_gradient(model, random_segments(2), probe(), r"^(norm\.|idle)")
    assert found.keys() == {"norm.weight", "norm.bias", "idle"}
    assert float(found["norm.weight"].abs().sum()) > 0
    assert torch.equal(found["idle"], torch.zeros(2, dtype=torch.float64))


def test_no_mask_no_gradient() -> None:
    model, segments = toy(), random_segments(2)
    mute = replace(segments, mask=torch.zeros_like(segments.mask))
    assert float(gradients(model, mute, whole(model, LINEAR, probe())).abs().sum()) == 0
    with pytest.raises(ValueError, match="no segment holds music"):
        mean_gradient(model, mute, probe(), LINEAR)


def traces(module: nn.Module) -> list[object]:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules()]
    return [hooks, [(p.requires_grad, p.grad is None, p.detach().clone().tolist()) for p in module.parameters()]]


def test_the_model_is_left_as_it_was_even_when_stopped() -> None:
    model, segments = toy(), random_segments(3)
    model.module.proj_out.weight.requires_grad_(False)
    before = traces(model.module)
    gradients(model, segments, whole(model, LINEAR, probe()))
    mean_gradient(model, segments, probe(), LINEAR)
    assert traces(model.module) == before

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gradients(model, segments, whole(model, LINEAR, probe(batch=2)), stop)
    assert traces(model.module) == before


def test_gradients_come_out_under_no_grad_too() -> None:
    model, segments = toy(), random_segments(2)
    expected = gradients(model, segments, whole(model, LINEAR, probe()))
    with torch.no_grad():
        assert torch.equal(gradients(model, segments, whole(model, LINEAR, probe())), expected)
        assert float(mean_gradient(model, segments, probe(), LINEAR)["up.weight"].abs().sum()) > 0


class Odd(nn.Module):
    """Layers used as real networks do: twice, shared, strided, behind one's back, without a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.shared = nn.Linear(CHANNELS, CHANNELS), nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.sharer = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.sharer.weight = self.shared.weight
        self.strided = nn.Conv1d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        self.grouped = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1, groups=2)
        self.behind, self.table = nn.Linear(CHANNELS, CHANNELS), nn.Linear(2, CHANNELS)
        self.named = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        x = self.sharer(self.shared(self.twice(self.twice(noisy.mT).tanh())).tanh())
        x = nn.functional.linear(x, self.behind.weight) + self.table(torch.ones(1, 2, dtype=x.dtype))
        x = self.named(input=x).mT
        return self.grouped(x) + self.strided(x).repeat_interleave(2, 2)


def odd() -> ToyModel:
    torch.manual_seed(2)
    return ToyModel(Odd().double())


@pytest.mark.parametrize("weights", [r"^twice\.", r"^shared\.", r"^strided\."])
def test_layers_used_twice_shared_or_strided_equal_a_loop(weights: str) -> None:
    model, segments, one = odd(), random_segments(3), probe(draws=2)
    found = gradients(model, segments, whole(model, weights, one))
    torch.testing.assert_close(found, looped(model, segments, one, weights))


@pytest.mark.parametrize(
    ("weights", "why"),
    [("^grouped", "plain Conv1d"), ("^behind", "never called"), ("^table", "not a batch"), ("^named", "keywords")],
)
def test_weights_that_no_hook_can_serve_are_refused(weights: str, why: str) -> None:
    model = odd()
    before = traces(model.module)
    with pytest.raises(UnsupportedWeight, match=why):
        gradients(model, random_segments(3), whole(model, weights, probe()))
    assert traces(model.module) == before


def test_norms_and_empty_selections_are_refused() -> None:
    model, segments = toy(), random_segments(1)
    with pytest.raises(UnsupportedWeight, match="norm"):
        gradients(model, segments, whole(model, "norm", probe()))
    with pytest.raises(ValueError, match="no weight matches"):
        gradients(model, segments, Request(probe(), "nothing", SJLT(0, 8)))
    with pytest.raises(ValueError, match="no weight matches"):
        mean_gradient(model, segments, probe(), "nothing")


def test_a_pattern_can_name_weights_exactly() -> None:
    model = toy()
    assert list(model.params(exactly(["up.bias", "to_k.weight"]))) == ["to_k.weight", "up.bias"]


class Half(nn.Module):
    """A denoiser that computes in bfloat16 between float32 ends."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(noisy.mT).mT


def test_rows_of_a_bfloat16_pass_are_float32_and_near_the_exact_ones() -> None:
    torch.manual_seed(0)
    model = ToyModel(Half())
    segments = random_segments(3, torch.float32)
    found = gradients(model, segments, whole(model, "inner", probe()))
    exact = looped(ToyModel(model.module.double()), random_segments(3), probe(), "inner")
    assert found.dtype is torch.float32
    assert float(torch.cosine_similarity(found.double(), exact).min()) > 0.999


@pytest.mark.parametrize("batch", [1, 2, 4, 5, 6, 12, 40])
def test_measures_and_groups_that_share_a_forward_pass_are_those_taken_alone(batch: int) -> None:
    model, segments, measures = toy(), random_segments(3), MEASURES
    requests = [whole(model, LINEAR, probe(measure, draws=12, batch=batch)) for measure in measures]
    found = gradients_each(model, segments, requests, 3)
    for at, request in enumerate(requests):
        torch.testing.assert_close(found.rows[:, :, at], grouped(model, segments, request, 3))
        alone = [
            gradients(model, segments, replace(request, probe=replace(request.probe, grid=part)))
            for part in request.probe.grid.parts(3)
        ]
        torch.testing.assert_close(found.rows[:, :, at], torch.stack(alone))
    torch.testing.assert_close(found.profile, profile(model, segments, requests[0].probe))


def test_the_model_runs_forwards_once_for_all_measures() -> None:
    model, calls = toy(), []
    handle = model.module.register_forward_pre_hook(lambda *_: calls.append(1))
    gradients_each(model, random_segments(2), [whole(model, LINEAR, probe(m, batch=12)) for m in MEASURES], 2)
    handle.remove()
    assert len(calls) == 1


def test_rows_of_the_same_passes_differ_in_their_measure_alone() -> None:
    model = toy()
    one, other = (whole(model, LINEAR, probe(Measure.LOSS, draws=draws)) for draws in (4, 6))
    with pytest.raises(ValueError, match="measure alone"):
        gradients_each(model, random_segments(2), [one, other])
