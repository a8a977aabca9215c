"""A second layout, with keys and values in one matrix: the science does not notice."""

import worker.diffusion  # noqa: F401  # makes torchaudio importable, which diffusers imports

# isort: split
import pytest
import torch
from diffusers import StableAudio3DiTModel
from torch import Tensor

from worker.attribution.gradients import Request, gradients, matching, mean_gradient
from worker.attribution.hooks import UnsupportedWeight, selected
from worker.attribution.measure import Measure, Probe, diffuse, schedule, values
from worker.attribution.noise import Grid
from worker.attribution.projection import SJLT, Identity, pull_back
from worker.attribution.types import Conditioning, Segments
from worker.attribution.unlearn import Step, mirrored, step_length, unlearn
from worker.diffusion.rectified import WEIGHTS, RectifiedDenoiser

CHANNELS, FRAMES, TEXT = 8, 12, 16
KV = r"cross_attn\.to_kv\.weight$"


@pytest.fixture(scope="module")
def model() -> RectifiedDenoiser:
    torch.manual_seed(0)
    module = StableAudio3DiTModel(CHANNELS, 1, 32, 2, 2, TEXT, TEXT, 9, 16, 2.0, 3)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return RectifiedDenoiser(module.eval().requires_grad_(False))


def segments(count: int) -> Segments:
    make = torch.Generator().manual_seed(1)
    mask = torch.ones(count, 4, dtype=torch.bool)
    mask[0, 2:] = False
    cross, whole = (torch.randn(count, k, TEXT, generator=make) for k in (4, 1))
    latents = torch.randn(count, CHANNELS, FRAMES, generator=make)
    return Segments(latents, torch.ones(count, FRAMES), Conditioning(cross, mask, whole))


def test_the_flow_is_told_as_v(model: RectifiedDenoiser):
    some = segments(2)
    samples = diffuse(some, Grid(5, 3))
    alpha, sigma = (x[:, None, None] for x in schedule(samples.level))
    clean = some.latents.repeat_interleave(3, 0)
    noise = (samples.noisy - alpha * clean) / sigma

    class Perfect(torch.nn.Module):
        def forward(self, mixed: Tensor, part: Tensor, **_: object) -> tuple[Tensor]:
            s = part[:, None, None]
            torch.testing.assert_close(mixed, (1 - s) * clean + s * noise, rtol=1e-4, atol=1e-5)
            return (noise - clean,)

    perfect = RectifiedDenoiser(model.module)
    perfect.module = Perfect()
    found = perfect.output({}, samples.noisy, samples.level, samples.cond)
    torch.testing.assert_close(found, samples.target, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("measure", Measure)
@pytest.mark.parametrize("weights", [WEIGHTS, KV])
def test_hooks_equal_autograd(model: RectifiedDenoiser, measure: Measure, weights: str):
    some, probe = segments(3), Probe(measure, Grid(5, 4), 8)
    found = gradients(model, some, Request(probe, weights, Identity.of(model.params(weights))))
    for at in range(len(some)):
        alone = mean_gradient(model, some[at : at + 1], probe, weights)
        flat = torch.cat([gradient.flatten() for gradient in alone.values()])
        torch.testing.assert_close(found[at], flat, rtol=1e-3, atol=1e-4 * float(flat.abs().max()))


def test_the_selection_takes_fused_keys_and_values(model: RectifiedDenoiser):
    named = {layer.weight for layer in selected(model.module, WEIGHTS)}
    for block in range(2):
        assert f"transformer_blocks.{block}.cross_attn.to_kv.weight" in named
    assert named == set(matching(model, WEIGHTS))
    with pytest.raises(UnsupportedWeight):
        selected(model.module, r"memory_tokens")


def test_a_finite_step_tends_to_its_first_order(model: RectifiedDenoiser):
    some, sketch = segments(3), SJLT(3, 256, 2)
    probe = Probe(Measure.SQUARED_OUTPUT, Grid(5, 4), 16)
    rows, theta = gradients(model, some, Request(probe, WEIGHTS, sketch)), model.params(WEIGHTS)
    direction, step = pull_back(sketch, rows[0], theta), Step(1e-4)
    before = values(model, {}, some, probe)
    moved = mirrored(model, some, probe, unlearn(theta, direction, step)) / step_length(theta, direction, step)
    torch.testing.assert_close(moved, rows @ rows[0], rtol=0.05, atol=0.02 * float((rows @ rows[0]).abs().max()))
    assert torch.equal(values(model, {}, some, probe), before)
