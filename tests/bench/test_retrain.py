"""Retraining: which songs each model sees, that training is what it says, and that nothing done is done again."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.faithfulness.queries import generated, held_out
from bench.faithfulness.retrain import BANDS, FAMILIES, Asked, Ledger, Meter, cohorts
from bench.faithfulness.subsets import DOSED_EACH, DOSES, SONGS, Job, artist_halves, doses, halves, jobs
from bench.starter.pipeline import Size, untrained
from bench.starter.songs import split
from bench.starter.train import TRAINED, Cohort, Learner, Recipe, Run, initial_weights
from worker.diffusion.spectral import SpectralAutoencoder

if TYPE_CHECKING:
    from pathlib import Path

CAPTIONS = [f"{pace} {tone} loud steady music in C major about 90 bpm" for pace in ("slow", "fast") for tone in ("dark",
            "bright", "warm")]  # fmt: skip
RECIPE = Recipe(epochs=2, batch=8, warmup=2, average=0.9)


@pytest.fixture(scope="module")
def learners() -> list[Learner]:
    torch.manual_seed(0)
    autoencoder = SpectralAutoencoder(latent_channels=8, stack=4)
    size = Size(layers=1, heads=1, head_width=32, frames=12, text_width=16, text_layers=1)
    latents = torch.randn(len(CAPTIONS), 1, 8, 1).expand(-1, 2, -1, 36)  # every song a chord of its own
    made = []
    for _ in range(2):
        pipeline = untrained(CAPTIONS, autoencoder, size)
        made.append(Learner(pipeline, latents, CAPTIONS, RECIPE).requires_grad_(True).train())
    return made


def weights(learner: Learner) -> list[torch.Tensor]:
    return [w.detach().clone() for w in learner.weights()]


def test_a_run_is_a_function_of_its_songs_and_seed(learners: list[Learner]) -> None:
    cohort = Cohort(learners[:1])
    found = []
    for run in (Run((0, 1, 2), 5, 4), Run((0, 1, 2), 5, 4), Run((3, 4, 5), 5, 4), Run((0, 1, 2), 6, 4)):
        cohort.train([run], [initial_weights(learners[0], 1)])
        found.append(weights(learners[0]))
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    for other in found[2:]:
        assert not all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_members_of_a_cohort_train_apart_and_for_equally_many_steps(learners: list[Learner]) -> None:
    cohort, first = Cohort(learners), initial_weights(learners[0], 1)
    cohort.train([Run((0,), 1, 3), Run((5,), 1, 3)], [first, first])
    one, two = (weights(learner) for learner in learners)
    assert not all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    with pytest.raises(ValueError, match="same number of steps"):
        cohort.train([Run((0,), 1, 3), Run((5,), 1, 4)], [first, first])


def test_training_lowers_the_loss_of_the_songs_that_it_sees(learners: list[Learner]) -> None:
    learner = learners[0]
    latents = learner.latents[:, 0, :12].transpose(1, 2)
    asked = Asked(latents, learner.tokens, learner.real, torch.ones(len(latents)))
    meter, cohort = Meter(asked, 16), Cohort([learner])
    cohort.train([Run((0, 1), 1, 1)], [initial_weights(learner, 1)])
    before = meter.losses(learner, learner.error)
    cohort.train([Run((0, 1), 1, 150)], [initial_weights(learner, 1)])
    fall = (before - meter.losses(learner, learner.error)).mean(1)
    assert before.shape == (len(latents), BANDS)
    assert fall[:2].min() > fall[2:].max()


def test_initial_weights_are_of_every_part_and_of_the_seed(learners: list[Learner]) -> None:
    found = initial_weights(learners[0], 3)
    assert [w.shape for w in found] == [w.shape for w in learners[0].weights()]
    assert all(torch.equal(a, b) for a, b in zip(found, initial_weights(learners[1], 3), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(found, initial_weights(learners[0], 4), strict=True))
    assert len(TRAINED) == 3


def test_halves_are_halves_and_artists_stay_in_theirs() -> None:
    assert {len(kept) for kept in halves()} == {SONGS // 2}
    assert len(set(halves())) == len(halves())
    trained = split().trained
    for kept in artist_halves(5):
        assert len(kept) == len(set(kept)) == SONGS // 2
        for artist in {song.artist for song in trained}:
            own = [n for n, song in enumerate(trained) if song.artist == artist]
            assert abs(len(set(own) & set(kept)) - len(own) / 2) <= 0.5


def test_doses_are_as_many_songs_each() -> None:
    copies = doses(0)
    assert [copies.count(dose) for dose in DOSES if dose != 1] == [DOSED_EACH] * (len(DOSES) - 1)
    assert copies != doses(1)


def test_removals_leave_their_songs_out_under_as_many_seeds_as_asked(tmp_path: Path) -> None:
    groups = [
        {"mask": 0, "songs": [3, 7], "seeds": 2},
        {"mask": 1, "songs": [0], "seeds": 1},
        {"mask": 0, "songs": [3, 7], "seeds": 2},  # chosen by another method too: trained once
    ]
    (tmp_path / "removals.json").write_text(json.dumps(groups))
    found = jobs(["removals"], tmp_path / "removals.json")
    assert [(job.mask, len(job.songs)) for job in found] == [(0, SONGS - 2), (1, SONGS - 1), (0, SONGS - 2)]
    assert not {3, 7} & set(found[0].songs)
    with pytest.raises(ValueError, match="file"):
        jobs(["removals"])


def test_cohorts_are_of_one_family_and_one_length() -> None:
    todo = jobs(["full", "halves", "short"])
    groups = list(cohorts(todo, Recipe(), 4))
    assert sum(map(len, groups)) == len(todo)
    for group in groups:
        assert len(group) <= 4
        assert len({(job.family, steps) for job, steps in group}) == 1
    short, whole = (next(s for g in groups for j, s in g if j.family == name) for name in ("short", "halves"))
    assert short == pytest.approx(whole / 2, abs=1)


def test_a_ledger_keeps_what_is_done_and_writes_it_whole(tmp_path: Path) -> None:
    path, job = tmp_path / "part-0.safetensors", Job("doses", 1, 2, (4, 4, 9))
    ledger = Ledger(path)
    assert not ledger.has(job)
    ledger.add(job, torch.arange(16.0).view(2, BANDS), 0.5)
    ledger.save()
    again = Ledger(path)
    assert again.has(job)
    assert not again.has(Job("doses", 1, 3, (4,)))
    kept = load_file(path)
    assert (kept["kept"][0, 4], kept["kept"][0, 9], kept["kept"][0].sum()) == (2, 1, 3)
    assert FAMILIES[int(kept["family"][0])] == "doses"
    save_file(kept, path)
    assert len(Ledger(path).rows) == 1


def test_queries_are_split_by_prompt_and_by_song() -> None:
    words = itertools.product(("dark", "warm", "bright"), ("quiet", "loud"), "ABCDEFG", range(60, 180, 10))
    made = generated([f"slow {b} {v} steady music in {k} minor about {t} bpm" for b, v, k, t in words][::5])
    assert len({query.prompt for query in made}) == len(made)
    unseen = held_out([{"key": f"song {n}", "caption": "a caption"} for n in range(34)])
    assert len(unseen) == 136
    sides = {query.song: {q.split for q in unseen if q.song == query.song} for query in unseen}
    assert all(len(side) == 1 for side in sides.values())
    assert {q.prompt for q in unseen if q.condition == "null"} == {None}
