"""Blocks in bfloat16 keep the direction of rows, and leave the resident model alone."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from bench import tiny
from worker.attribution.gradients import gradients_each
from worker.attribution.types import Segments
from worker.diffusion.half import HalfBlocks
from worker.diffusion.stable_audio import StableAudio, load
from worker.engine import Engine
from worker.index import row_requests


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> StableAudio:
    return load(tiny_folder / "pipeline", "cpu")


def segments(engine: Engine) -> Segments:
    return engine.index.segments(engine.model, torch.arange(0, 32, 5))


def test_rows_keep_their_direction(model: StableAudio, tiny_engine: Engine):
    some, requests = segments(tiny_engine), row_requests(tiny.CONFIG, 32)
    exact, half = (gradients_each(m, some, requests) for m in (model, HalfBlocks(model)))
    assert half.rows.dtype == half.profile.dtype == torch.float32
    assert cosine_similarity(exact.rows, half.rows, dim=-1).min() > 0.999
    torch.testing.assert_close(half.profile, exact.profile, rtol=0.05, atol=1e-3)


def test_the_ranking_stays(model: StableAudio, tiny_engine: Engine):
    index, requests = tiny_engine.index, row_requests(tiny.CONFIG, 32)
    rows = [gradients_each(m, segments(tiny_engine), requests).rows[0] for m in (model, HalfBlocks(model))]
    exact, half = (index.song_scores(index.scan(index.solved(row))) for row in rows)
    assert exact.argmax(1).tolist() == half.argmax(1).tolist()
    for a, b in zip(exact, half, strict=True):
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.999


def test_the_resident_model_is_not_touched(model: StableAudio, tiny_engine: Engine):
    before = {name: p.clone() for name, p in model.module.state_dict().items()}
    half = HalfBlocks(model)
    gradients_each(half, segments(tiny_engine)[:1], row_requests(tiny.CONFIG, 16))
    after = model.module.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())
    assert {n: p.dtype for n, p in half.params(".").items()} == dict.fromkeys(before, torch.float32)


def test_weights_given_as_an_argument_are_used(model: StableAudio, tiny_engine: Engine):
    one, half = segments(tiny_engine)[:1], HalfBlocks(model)
    level = torch.full((1,), 0.5)
    plain = half.output({}, one.latents, level, one.cond)
    theta = half.params(tiny.CONFIG.weights)
    torch.testing.assert_close(half.output(theta, one.latents, level, one.cond), plain)
    doubled = {name: 2 * weight for name, weight in theta.items()}
    assert not torch.allclose(half.output(doubled, one.latents, level, one.cond), plain)
