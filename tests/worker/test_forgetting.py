"""A counterfactual on the tiny model: weights stay, equal seeds sound equal, the song behind a track matters most."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench import tiny
from worker.attribution.unlearn import Step, unlearn
from worker.engine import Engine, Query
from worker.forgetting import Asked, Counterfactual, Forgetter
from worker.refusals import EngineError

STAGES = ["encoding", "forgetting", "measuring", "generating"]
SONG, CONTROL = tiny.SONGS[1], tiny.SONGS[5]
ASKED = Asked(SONG.key, CONTROL.key, SONG.caption, seed=3)


def query(song: tiny.TinySong = SONG, window: int = 1) -> Query:
    return Query(song.samples()[:, window * tiny.WINDOW : (window + 1) * tiny.WINDOW], tiny.RATE, song.caption)


def asking(engine: Engine, asked: Asked = ASKED, about: Query | None = None) -> Counterfactual:
    return engine.forget(about or query(), asked, lambda *_: None)


@pytest.fixture(scope="module")
def found(tiny_engine: Engine) -> Counterfactual:
    return asking(tiny_engine)


def test_the_song_behind_a_track_moves_it_more_than_the_control(found: Counterfactual) -> None:
    assert found.control is not None
    assert found.difference is not None
    assert found.song.change.low > 0
    assert found.difference.low > 0
    assert found.difference.mean == pytest.approx(found.song.change.mean - found.control.change.mean)
    assert found.song.apart.spectral_db > found.control.apart.spectral_db


def test_every_song_s_own_window_is_moved_most_by_its_song(tiny_engine: Engine) -> None:
    forgetter = Forgetter(tiny_engine.model, tiny_engine.index, 32)
    songs = [forgetter.segments(song.key) for song in tiny.SONGS]
    after = [forgetter.without(song, lambda _: None) for song in songs]
    moved = [[float(forgetter.changes(track[:1], params, 16).mean()) for params in after] for track in songs]
    best = [row.index(max(row)) for row in moved]
    assert sum(place == number for number, place in enumerate(best)) >= 7


def test_what_is_forgotten_is_known_less(found: Counterfactual) -> None:
    for version in (found.song, found.control):
        assert version is not None
        assert version.own.low > 0


def test_the_resident_weights_stay_bit_for_bit(tiny_engine: Engine) -> None:
    module = tiny_engine.model.module
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    asking(tiny_engine)
    assert tiny_engine.model.module is module
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_a_ranking_is_the_same_before_and_after(tiny_engine: Engine) -> None:
    def scores() -> list[float]:
        return [row.score for row in tiny_engine.attribute(query(), lambda *_: None).influences]

    first = scores()
    asking(tiny_engine)
    assert scores() == first


def test_with_nothing_forgotten_the_same_seed_gives_the_same_sound(tiny_engine: Engine, found: Counterfactual) -> None:
    model = tiny_engine.model
    again = model.generate(SONG.caption, 3, model.form.seconds)
    untouched = model.having(model.params(".*")).generate(SONG.caption, 3, model.form.seconds)
    assert np.array_equal(found.baseline, again)
    assert np.array_equal(found.baseline, untouched)
    assert not np.array_equal(found.baseline, found.song.audio)


def test_as_the_step_vanishes_so_does_the_change_of_the_sound(tiny_engine: Engine) -> None:
    model = tiny_engine.model
    forgetter = Forgetter(model, tiny_engine.index, 32)
    whole = forgetter.without(forgetter.segments(SONG.key), lambda _: None)
    theta = model.params(tiny_engine.index.config.weights)
    direction = {name: whole[name] - theta[name] for name in theta}
    base = model.generate(SONG.caption, 3)
    far = [
        float(np.abs(model.having(unlearn(theta, direction, Step(step))).generate(SONG.caption, 3) - base).mean())
        for step in (1e-2, 1e-4, 1e-6)
    ]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-2 * far[0]


def test_the_same_question_has_the_same_answer(tiny_engine: Engine, found: Counterfactual) -> None:
    again = asking(tiny_engine)
    assert (again.loss, again.song.change, again.difference) == (found.loss, found.song.change, found.difference)
    assert np.array_equal(again.song.audio, found.song.audio)


def test_the_copy_is_as_long_as_the_track_and_at_most_a_window(tiny_engine: Engine) -> None:
    half = replace(query(), samples=query().samples[:, : tiny.WINDOW // 2])
    long = replace(query(), samples=SONG.samples())
    assert asking(tiny_engine, about=half).baseline.shape == (1, tiny.WINDOW // 2)
    assert asking(tiny_engine, about=long).baseline.shape == (1, tiny.WINDOW)


def test_without_a_control_there_is_no_comparison(tiny_engine: Engine) -> None:
    found = asking(tiny_engine, replace(ASKED, control=None))
    assert (found.control, found.difference) == (None, None)


def test_stages_come_in_order_and_what_report_raises_passes_through(tiny_engine: Engine) -> None:
    seen: list[tuple[str, float]] = []
    tiny_engine.forget(query(), ASKED, lambda *at: seen.append(at))
    assert list(dict.fromkeys(stage for stage, _ in seen)) == STAGES
    for stage in STAGES:
        done = [progress for name, progress in seen if name == stage]
        assert done == sorted(done)
        assert 0 <= done[0] <= done[-1] <= 1

    def refuse(stage: str, progress: float) -> None:
        if stage == "generating" and progress > 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        tiny_engine.forget(query(), ASKED, refuse)
    assert asking(tiny_engine).loss == tiny_engine.forget(query(), ASKED, lambda *_: None).loss


@pytest.mark.parametrize("which", ["song", "control"])
def test_songs_that_the_index_does_not_know_are_refused(tiny_engine: Engine, which: str) -> None:
    with pytest.raises(EngineError, match="nobody") as refused:
        asking(tiny_engine, replace(ASKED, **{which: "nobody"}))
    assert refused.value.kind == "not-in-training-set"


def test_duplicates_are_forgotten_together(tiny_engine: Engine) -> None:
    manifest = tiny_engine.index.manifest
    stored = list(manifest.stored)
    stored[2] = replace(stored[2], same_as=SONG.key)
    index = replace(tiny_engine.index, manifest=replace(manifest, stored=tuple(stored)))
    assert len(Forgetter(tiny_engine.model, index, 32).segments(SONG.key)) == 2 * tiny.WINDOWS
