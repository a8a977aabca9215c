"""Measures follow their equations, whatever the batch and whatever lies in the padding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.attribution.toy import probe, random_segments, toy
from worker.attribution.measure import (
    Measure,
    Probe,
    blocks,
    diffuse,
    exact_float32,
    masked_mean_square,
    profile,
    schedule,
    values,
)
from worker.attribution.noise import Grid
from worker.attribution.types import Conditioning, Segments

MEASURES = list(Measure)


def test_the_schedule_preserves_variance_from_music_to_noise() -> None:
    alpha, sigma = schedule(torch.linspace(0, 1, 9, dtype=torch.float64))
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(9, dtype=torch.float64))
    assert torch.allclose(torch.stack([alpha[0], sigma[-1]]), torch.ones(2, dtype=torch.float64))


def test_music_and_noise_come_back_from_a_sample_and_its_target() -> None:
    segments, grid = random_segments(3), Grid(3, 4)
    samples = diffuse(segments, grid)
    alpha, sigma = (x[:, None, None] for x in schedule(samples.level))
    music = (segments.latents * segments.mask[:, None]).repeat_interleave(4, 0)
    assert torch.allclose(alpha * samples.noisy - sigma * samples.target, music)
    noise = grid.noise((4, 10)).double().repeat(3, 1, 1)
    assert torch.allclose(sigma * samples.noisy + alpha * samples.target, noise)


@pytest.mark.parametrize("measure", MEASURES)
def test_values_equal_the_equation_sample_by_sample(measure: Measure) -> None:
    model, segments, one = toy(), random_segments(4), probe(measure, draws=3)
    found = values(model, {}, segments, one)
    for i in range(4):
        for d, (level, noise) in enumerate(zip(one.grid.levels(), one.grid.noise((4, 10)).double(), strict=True)):
            alpha, sigma = schedule(level)
            music = segments.latents[i] * segments.mask[i]
            noisy = (alpha * music + sigma * noise)[None]
            with torch.no_grad():
                v = model.output({}, noisy, level[None], segments.cond[i : i + 1])[0]
            squared = {
                Measure.LOSS: v - (alpha * noise - sigma * music),
                Measure.SQUARED_OUTPUT: v,
                Measure.SQUARED_NOISE: sigma * noisy[0] + alpha * v,
            }
            expected = squared[measure][:, segments.mask[i] > 0].square().mean()
            assert torch.allclose(found[i, d], expected)


def test_a_perfect_prediction_has_the_squared_noise_of_the_noise_itself() -> None:
    segments, grid = random_segments(2), Grid(3, 4)
    perfect = diffuse(segments, grid).target

    class Oracle:
        module, device = toy().module, torch.device("cpu")

        def output(self, *_: object) -> torch.Tensor:
            return perfect

    found = values(Oracle(), {}, segments, Probe(Measure.SQUARED_NOISE, grid))
    noise = grid.noise((4, 10)).double().repeat(2, 1, 1)
    expected = masked_mean_square(noise, segments.mask.repeat_interleave(4, 0)).view(2, 4)
    torch.testing.assert_close(found, expected)


def test_a_profile_is_loss_and_target_of_one_pass() -> None:
    model, segments, grid = toy(), random_segments(3), Grid(3, 4)
    found = profile(model, segments, Probe(Measure.LOSS, grid, 6))
    torch.testing.assert_close(found[0], values(model, {}, segments, Probe(Measure.LOSS, grid)))
    samples = diffuse(segments, grid)
    torch.testing.assert_close(found[1], masked_mean_square(samples.target, samples.mask).view(3, 4))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_batch_changes_nothing_but_rounding(measure: Measure, dtype: torch.dtype) -> None:
    model, segments = toy(dtype), random_segments(4, dtype)
    one = values(model, {}, segments, probe(measure, draws=7, batch=1))
    for batch in (5, 24):
        other = values(model, {}, segments, probe(measure, draws=7, batch=batch))
        torch.testing.assert_close(other, one)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 30))
def test_blocks_cover_every_sample_once_and_none_is_larger_than_the_batch(
    segments: int, draws: int, batch: int
) -> None:
    cover = torch.zeros(segments, draws)
    fractions = []
    for block in blocks(segments, Probe(Measure.LOSS, Grid(0, draws), batch)):
        part = cover[block.rows, block.columns]
        assert part.numel() <= batch
        assert list(block.probe.grid.indices) == list(range(draws))[block.columns]
        part += 1
        fractions.append(block.done)
        assert block.done == pytest.approx(float(cover.mean()))
    assert bool((cover == 1).all())
    assert fractions[-1] == 1


@pytest.mark.parametrize("measure", MEASURES)
def test_what_lies_in_the_padding_never_matters(measure: Measure) -> None:
    model, segments, one = toy(), random_segments(4), probe(measure)
    garbage = 100 * torch.randn_like(segments.latents)
    spoiled = replace(segments, latents=torch.where(segments.mask[:, None] > 0, segments.latents, garbage))
    assert not torch.equal(spoiled.latents, segments.latents)
    assert torch.equal(values(model, {}, spoiled, one), values(model, {}, segments, one))


def test_a_segment_without_music_measures_nothing() -> None:
    segments = random_segments(2)
    mute = replace(segments, mask=torch.stack([segments.mask[0], torch.zeros(10)]))
    found = values(toy(), {}, mute, probe())
    assert bool((found[0] > 0).all())
    assert bool((found[1] == 0).all())
    assert torch.equal(mute.music, torch.tensor([10.0, 0.0]))


def test_a_mask_of_booleans_serves() -> None:
    segments = random_segments(3)
    as_bool = replace(segments, mask=segments.mask.bool())
    assert torch.equal(values(toy(), {}, as_bool, probe()), values(toy(), {}, segments, probe()))


def test_weights_given_as_an_argument_replace_the_resident_ones_for_one_call() -> None:
    model, other, segments = toy(seed=0), toy(seed=5), random_segments(2)
    before = values(model, {}, segments, probe())
    swapped = values(model, other.params(""), segments, probe())
    torch.testing.assert_close(swapped, values(other, {}, segments, probe()))
    assert torch.equal(values(model, {}, segments, probe()), before)


def test_the_masked_mean_is_the_mean_of_what_is_left() -> None:
    x, mask = torch.randn(2, 3, 5), torch.tensor([[1.0, 1, 0, 0, 1], [0, 0, 0, 1, 0]])
    expected = torch.stack([x[0][:, [0, 1, 4]].square().mean(), x[1][:, 3].square().mean()])
    torch.testing.assert_close(masked_mean_square(x, mask), expected)


def test_progress_grows_to_one_and_may_stop_the_work() -> None:
    heard: list[float] = []
    values(toy(), {}, random_segments(5), probe(draws=4, batch=3), heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        values(toy(), {}, random_segments(2), probe(), stop)


def test_float32_is_exact_inside_the_block_only() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with exact_float32():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")


def test_what_would_be_meaningless_is_refused() -> None:
    model, segments = toy(), random_segments(2)
    with pytest.raises(ValueError, match="NaN"):
        values(model, {}, replace(segments, latents=segments.latents / 0), probe())
    with pytest.raises(ValueError, match="float32"):
        values(model, {}, replace(segments, latents=segments.latents.half()), probe())
    with pytest.raises(ValueError, match="no segments"):
        values(model, {}, segments[:0], probe())
    with pytest.raises(ValueError, match="at least one"):
        probe(batch=0)
    model.module.train()
    with pytest.raises(ValueError, match="training mode"):
        values(model, {}, segments, probe())


def test_segments_whose_parts_do_not_fit_are_refused() -> None:
    s = random_segments(3)
    with pytest.raises(ValueError, match="mask"):
        Segments(s.latents, s.mask[:, :-1], s.cond)
    with pytest.raises(ValueError, match="conditioning"):
        Segments(s.latents, s.mask, s.cond[:2])
    with pytest.raises(ValueError, match="latents"):
        Segments(s.latents[0], s.mask, s.cond)
    with pytest.raises(ValueError, match="token mask"):
        Conditioning(s.cond.cross, s.cond.mask[:, :-1], s.cond.globals_)
    with pytest.raises(ValueError, match="global"):
        Conditioning(s.cond.cross, s.cond.mask, s.cond.globals_[:1])
    with pytest.raises(ValueError, match="tokens are"):
        Conditioning(s.cond.cross[0], s.cond.mask, s.cond.globals_)


def test_segments_taken_apart_and_joined_are_the_same() -> None:
    s = random_segments(5)
    again = Segments.cat([s[:2], s[torch.tensor([2, 3, 4])]]).to(torch.device("cpu"))
    assert torch.equal(again.latents, s.latents)
    assert torch.equal(again.mask, s.mask)
    assert all(torch.equal(getattr(again.cond, n), getattr(s.cond, n)) for n in ("cross", "mask", "globals_"))
