"""The gate tells what a decoder made from what it cannot say, loudness and padding aside, and says how sure it is."""

import pytest
import torch

from worker.attribution.provenance import Gate, fit_gate, spectral_distance


def test_the_verdict_follows_the_probability() -> None:
    gate = Gate(intercept=0.0, slope=-5.0)
    found = [gate.judge(distance) for distance in (0.1, 1.0, 10.0)]
    assert [each.verdict for each in found] == ["own", "unsure", "foreign"]
    chances = [each.probability for each in found]
    assert chances == pytest.approx([1.0, 0.5, 0.0], abs=1e-4)
    assert gate.judge(0.0).verdict == "own"


def test_a_gate_separates_what_it_was_fitted_on() -> None:
    make = torch.Generator().manual_seed(1)
    own, other = 0.15 * torch.rand(60, generator=make) + 0.05, 0.6 * torch.rand(40, generator=make) + 0.4
    gate = fit_gate(torch.cat([own, other]), torch.arange(100) < 60, torch.ones(100))
    assert {gate.judge(float(x)).verdict for x in own} == {"own"}
    assert {gate.judge(float(x)).verdict for x in other} == {"foreign"}


def test_a_gate_is_where_the_penalised_likelihood_is_flat() -> None:
    make = torch.Generator().manual_seed(2)
    distances, own = torch.rand(80, generator=make) + 0.1, torch.rand(80, generator=make) < 0.4
    weights = torch.rand(80, generator=make).double()
    gate = fit_gate(distances, own, weights, ridge=0.5)
    x = distances.double().log()
    centre = (weights * x).sum() / weights.sum()
    theta = torch.tensor([gate.intercept + gate.slope * float(centre), gate.slope]).double().requires_grad_()
    logit = theta[0] + theta[1] * (x - centre)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logit, own.double(), weights, reduction="sum")
    (each + 0.25 * theta[1] ** 2).backward()
    assert float(theta.grad.abs().max()) < 1e-6


def test_a_gate_needs_both_kinds() -> None:
    for own in (torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="own tracks and on others"):
            fit_gate(torch.rand(3) + 0.1, own, torch.ones(3))


def test_the_distance_is_that_of_spectra_whatever_the_loudness_and_the_sign() -> None:
    make = torch.Generator().manual_seed(3)
    audio, mask = torch.randn(2, 1, 16384, generator=make), torch.ones(2, 8)
    assert spectral_distance(audio, audio, mask) == 0
    assert spectral_distance(audio, -audio, mask) == pytest.approx(0, abs=1e-6)
    other = torch.randn(2, 1, 16384, generator=make)
    far = spectral_distance(audio, other, mask)
    assert far > 0.5
    assert spectral_distance(0.01 * audio, 0.01 * other, mask) == pytest.approx(far, rel=1e-3)
    assert spectral_distance(audio, 0.5 * audio, mask) == pytest.approx(0.68, abs=0.03)


def test_what_is_no_music_does_not_count() -> None:
    make = torch.Generator().manual_seed(4)
    audio = torch.randn(1, 1, 65536, generator=make)
    spoiled = audio.clone()
    spoiled[..., 40960:] = torch.randn(1, 1, 24576, generator=make)
    mask = torch.ones(1, 32)
    mask[:, 18:] = 0
    assert spectral_distance(audio, spoiled, mask) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="music"):
        spectral_distance(audio, spoiled, 0 * mask)
