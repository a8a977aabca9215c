"""What the adapters of public packages share, on the tiny model; the packages themselves are not needed."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench import tiny
from bench.faithfulness.packages.common import (
    COSTS,
    SCORES,
    Cost,
    Found,
    Settings,
    Work,
    add,
    plain_arithmetic,
    segment_loss,
    song_scores,
    tensors,
)
from worker.attribution.gradients import mean_gradient
from worker.attribution.measure import values
from worker.diffusion.stable_audio import load

if TYPE_CHECKING:
    from pathlib import Path

DRAWS = 4
PROMPTS = (tiny.SONGS[0].caption, tiny.SONGS[4].caption, None)


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder: the tiny pipeline, its training set, and three training windows as queries."""
    made = tmp_path_factory.mktemp("packages")
    (made / "pipeline").symlink_to(tiny_folder / "pipeline")
    training = tiny.training_set(load(made / "pipeline", "cpu"))
    training.save(made / "training.safetensors")
    save_file({"latents": training.latents[[0, 16, 0]].half()}, made / "queries.safetensors")
    (made / "queries.json").write_text(json.dumps([{"prompt": prompt} for prompt in PROMPTS]))
    return made


@pytest.fixture(scope="module")
def work(folder: Path) -> Work:
    return Work.load(folder, "cpu")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings("cpu", DRAWS, batch=4, dims=(16,), dampings=(0.1,))


def test_the_work_folder_is_read_with_its_conditions(work: Work) -> None:
    assert work.songs == len(tiny.SONGS)
    assert len(work.training) == len(work.song) == len(tiny.SONGS) * tiny.WINDOWS
    assert len(work.queries) == len(PROMPTS)
    assert not work.queries.cond.cross[2].any()
    assert work.queries.cond.cross[:2].any(-1).any(-1).all()
    first = work.model.condition(PROMPTS[:1], torch.zeros(1), torch.tensor([work.model.form.seconds]))
    torch.testing.assert_close(work.queries.cond.globals_[0], first.globals_[0])


def test_only_fourier_frequencies_are_not_learned(work: Work) -> None:
    every = {name for name, _ in work.model.module.named_parameters()}
    assert every - set(work.learned) == {"time_proj.weight"}
    assert work.size == sum(p.numel() for n, p in work.model.module.named_parameters() if n in work.learned)


def test_the_loss_is_the_mean_over_segments_and_draws(work: Work, settings: Settings) -> None:
    part = work.training[:3]
    expected = values(work.model, {}, part, settings.probe())
    with plain_arithmetic():
        whole = segment_loss(work.model, {}, tensors(part), settings.probe())
        single = segment_loss(work.model, {}, [x[1] for x in tensors(part)], settings.probe())
    torch.testing.assert_close(whole, expected.mean())
    torch.testing.assert_close(single, expected[1].mean())


def test_mapped_gradients_are_those_of_each_segment_alone(work: Work, settings: Settings) -> None:
    """The packages take the gradient by `torch.func` over a batch axis."""
    named = {n: p for n, p in work.model.module.named_parameters() if n in work.learned}
    part = work.training[5:8]

    def loss(params: dict[str, torch.Tensor], *row: torch.Tensor) -> torch.Tensor:
        return segment_loss(work.model, params, row, settings.probe())

    with plain_arithmetic():
        mapped = torch.func.vmap(torch.func.grad(loss), (None, 0, 0, 0, 0))(named, *tensors(part))
    pattern = "|".join(f"^{re.escape(name)}$" for name in work.learned)
    alone = partial(mean_gradient, work.model, probe=settings.probe(), weights=pattern)
    for number in range(len(part)):
        for name, gradient in alone(part[number : number + 1]).items():
            torch.testing.assert_close(mapped[name][number], gradient, rtol=1e-3, atol=1e-5)


def test_song_scores_sum_a_songs_segments() -> None:
    scores = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    found = song_scores(scores, torch.tensor([0, 0, 1]), 2)
    assert found.dtype == torch.float32
    assert found.tolist() == [[3.0, 4.0], [30.0, 40.0]]


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="singular"):
        song_scores(torch.tensor([[float("nan")]]), torch.tensor([0]), 1)


def test_results_are_added_to_those_of_earlier_runs(tmp_path: Path) -> None:
    add(tmp_path, Found("one,dim=2", torch.ones(2, 3), Cost(1.0, 0.5, 8)))
    add(tmp_path, Found("two", torch.zeros(2, 3), Cost(2.0, 0.25, 4)))
    add(tmp_path, Found("two", torch.full((2, 3), 7.0), Cost(2.0, 0.125, 4)))
    scores, costs = load_file(tmp_path / SCORES), json.loads((tmp_path / COSTS).read_text())
    assert set(scores) == set(costs) == {"one,dim=2", "two"}
    assert scores["two"].unique().tolist() == [7.0]
    assert costs["two"] == {"index_s": 2.0, "query_s": 0.125, "bytes_per_segment": 4}
