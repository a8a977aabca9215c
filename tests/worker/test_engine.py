"""Laws of the engine: own songs first, the same answer always, nothing changed by asking, typed refusals."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bench import tiny
from worker.build import background, subject
from worker.building import Material, build
from worker.checking import FORWARD
from worker.diffusion.windows import resample_to
from worker.engine import Choices, Engine, Query, Ranking
from worker.generate import main as generate
from worker.index import Expected, Index
from worker.manifest import IndexMismatch
from worker.refusals import EngineError, NotFinite, SilentAudio, TooShort, UnknownMethod
from worker.training import TrainingSet, TrainingSong

METHODS = ("index", "unlearn")
STAGES = ["encoding", "unlearning", "scoring", "ranking"]


def quiet(stage: str, progress: float) -> None:
    assert stage in STAGES
    assert 0 <= progress <= 1


def excerpt(song: tiny.TinySong, window: int = 1) -> np.ndarray:
    return song.samples()[:, window * tiny.WINDOW : (window + 1) * tiny.WINDOW]


def mp3(samples: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """Encode as a lossy file of about 16 to 64 kbit/s and decode it again."""
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.9)
    file.seek(0)
    heard, heard_rate = soundfile.read(file, dtype="float32", always_2d=True)
    return heard.T, heard_rate


def off_grid(song: tiny.TinySong) -> Query:
    return Query(song.samples()[:, 9100 : 9100 + tiny.WINDOW], tiny.RATE)


def cropped(song: tiny.TinySong) -> Query:
    return Query(song.samples()[:, 9100 : 9100 + 6000], tiny.RATE)


def resampled(song: tiny.TinySong) -> Query:
    return Query(resample_to(torch.from_numpy(excerpt(song)), tiny.RATE, 22050).numpy(), 22050)


def lossy(song: tiny.TinySong) -> Query:
    return Query(*mp3(excerpt(song), tiny.RATE))


def all_at_once(song: tiny.TinySong) -> Query:
    louder = resample_to(torch.from_numpy(song.samples()[:, 9100:16400]), tiny.RATE, 44100).expand(2, -1)
    return Query(*mp3(louder.numpy(), 44100))


def order(ranking: Ranking) -> list[str]:
    return [influence.key for influence in ranking.influences]


@pytest.fixture(scope="module")
def asked(tiny_engine: Engine) -> dict[str, Ranking]:
    """One answer of each method to the same track, of no song."""
    track = tiny_engine.model.generate("fast low tune", 5)
    return {m: tiny_engine.attribute(Query(track, tiny.RATE, "fast low tune", m), quiet) for m in METHODS}


@pytest.mark.parametrize("degraded", [off_grid, cropped, resampled, lossy, all_at_once])
def test_an_excerpt_ranks_its_own_song_first(tiny_engine: Engine, degraded: Callable[[tiny.TinySong], Query]):
    for song in tiny.SONGS:
        ranking = tiny_engine.attribute(degraded(song), quiet)
        assert order(ranking)[0] == song.key


def test_unlearning_an_excerpt_hurts_its_own_song_most(tiny_engine: Engine):
    for song in tiny.SONGS:
        ranking = tiny_engine.attribute(Query(excerpt(song), tiny.RATE, song.caption, "unlearn"), quiet)
        assert order(ranking)[0] == song.key


def test_the_best_match_is_the_excerpts_place_in_its_song(tiny_engine: Engine):
    for window in (0, 2):
        track = np.concatenate([excerpt(tiny.SONGS[4], 3), excerpt(tiny.SONGS[1], window)], 1)
        ranking = tiny_engine.attribute(Query(track, tiny.RATE), quiet)
        own = {influence.key: influence for influence in ranking.influences}[tiny.SONGS[1].key]
        best = own.matches[0]
        assert (best.song_start_s, best.track_start_s) == pytest.approx((window * 1.024, 1.024))
        assert best.segment == window
        assert best.seconds == pytest.approx(1.024)


@pytest.mark.parametrize("method", METHODS)
def test_the_ranking_does_not_depend_on_the_batch_or_a_restart(
    tiny_folder: Path, asked: dict[str, Ranking], method: str
):
    track = Engine.load(tiny_folder, "cpu").model.generate("fast low tune", 5)
    for batch in (1, 24):
        restarted = Engine.load(tiny_folder, "cpu", choices=Choices(batch))
        again = restarted.attribute(Query(track, tiny.RATE, "fast low tune", method), quiet)
        assert order(again) == order(asked[method])
        scores = [[influence.score for influence in ranking.influences] for ranking in (again, asked[method])]
        largest = max(map(abs, scores[1]))
        assert np.allclose(*scores, rtol=0, atol=1e-3 * largest)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_question_has_the_same_answer(tiny_engine: Engine, asked: dict[str, Ranking], method: str):
    track = tiny_engine.model.generate("fast low tune", 5)
    again = tiny_engine.attribute(Query(track, tiny.RATE, "fast low tune", method), quiet)
    assert again.influences == asked[method].influences


@pytest.mark.parametrize("method", METHODS)
def test_resident_weights_are_bit_identical_after_a_query(tiny_engine: Engine, method: str):
    before = {name: tensor.clone() for name, tensor in tiny_engine.model.module.state_dict().items()}
    tiny_engine.attribute(Query(excerpt(tiny.SONGS[0]), tiny.RATE, None, method), quiet)
    after = tiny_engine.model.module.state_dict()
    assert all(torch.equal(before[name].view(torch.uint8), after[name].view(torch.uint8)) for name in before)
    assert not any(p.requires_grad or p.grad is not None for p in tiny_engine.model.module.parameters())


class Canceled(Exception):
    pass


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_cancel_passes_through_and_leaves_the_engine_as_it_was(tiny_folder: Path, method: str, stage: str):
    engine = Engine.load(tiny_folder, "cpu")
    query = Query(excerpt(tiny.SONGS[2]), tiny.RATE, None, method)
    calls: list[str] = []

    def cancel(now: str, progress: float) -> None:
        calls.append(now)
        if now == stage and (progress > 0 or now == "ranking"):
            raise Canceled

    with pytest.raises(Canceled):
        engine.attribute(query, cancel)
    assert calls[-1] == stage
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in engine.model.module.modules())
    untouched = Engine.load(tiny_folder, "cpu").attribute(query, quiet)
    assert engine.attribute(query, quiet).influences == untouched.influences


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_is_complete_and_honest(asked: dict[str, Ranking], tiny_engine: Engine, method: str):
    answer = asked[method]
    assert sorted(order(answer)) == sorted(song.key for song in tiny.SONGS)
    scores = [influence.score for influence in answer.influences]
    assert scores == sorted(scores, reverse=True)
    assert sum(influence.share for influence in answer.influences) + answer.unattributed == pytest.approx(1)
    assert all(influence.share >= 0 for influence in answer.influences)
    assert all(0 <= influence.percentile <= 100 for influence in answer.influences)
    assert list(answer.timings) == STAGES
    assert answer.details["method"] == method
    assert answer.details["index_digest"] == tiny_engine.index_digest
    assert answer.reliability["verdict"] in ("good", "fair", "poor")
    json.dumps([answer.details, answer.reliability, answer.timings])


def test_the_check_measures_what_the_index_predicts(asked: dict[str, Ranking]):
    answer = asked["index"]
    checked = [(i.matches[0].score, i.check) for i in answer.influences if i.check is not None]
    assert len(checked) == 8
    assert np.corrcoef([(score, check.mirrored) for score, check in checked], rowvar=False)[0, 1] > 0.7
    both_ways = [(score, check.forward) for score, check in checked if check.forward is not None]
    assert len(both_ways) == FORWARD
    for score, forward in both_ways:
        assert forward == pytest.approx(score, rel=0.35)
    assert all(influence.check is None for influence in asked["unlearn"].influences)


def test_progress_runs_through_the_stages(tiny_engine: Engine):
    told: list[tuple[str, float]] = []
    tiny_engine.attribute(Query(excerpt(tiny.SONGS[0]), tiny.RATE), lambda stage, done: told.append((stage, done)))
    assert list(dict.fromkeys(stage for stage, _ in told)) == STAGES
    for stage in STAGES:
        parts = [done for name, done in told if name == stage]
        assert parts == sorted(parts)


def test_a_song_and_its_copy_are_told_as_twins(tiny_engine: Engine, tiny_folder: Path, tmp_path: Path):
    model, songs = tiny_engine.model, [tiny.SONGS[0], tiny.SONGS[5], tiny.SONGS[0]]
    windows = [tiny.windows_of(model, song) for song in songs]
    segments = [(model.encode(cut, "slow tune"), cut.starts, cut.total) for cut in windows]
    training = TrainingSet.of([TrainingSong(key, "slow tune") for key in ("alder", "frost", "copy")], segments)
    about = subject(model, tiny_folder)
    build(about, Material(training, background(model, tiny.PROMPTS, 2)), tiny.CONFIG, tmp_path)
    engine = Engine(model, Index.open(tmp_path, Expected(about.digest, ["alder", "frost", "copy"])))
    assert engine.attribute(Query(excerpt(songs[0]), tiny.RATE), quiet).details["twins"] == [["alder", "copy"]]


def test_what_is_no_track_is_refused_by_name(tiny_engine: Engine):
    song = excerpt(tiny.SONGS[0])
    spoiled = song.copy()
    spoiled[0, 5] = np.nan
    refused: list[tuple[type[EngineError], Query, str]] = [
        (TooShort, Query(song[:, :400], tiny.RATE), "too-short"),
        (TooShort, Query(song[:, :0], tiny.RATE), "too-short"),
        (TooShort, Query(song[:0], tiny.RATE), "too-short"),
        (SilentAudio, Query(np.zeros((2, 9000), np.float32), tiny.RATE), "silent"),
        (SilentAudio, Query(song * 1e-6, tiny.RATE), "silent"),
        (NotFinite, Query(spoiled, tiny.RATE), "not-finite"),
        (UnknownMethod, Query(song, tiny.RATE, None, "magic"), "unknown-method"),
        (EngineError, Query(song[0], tiny.RATE), "invalid-request"),
        (EngineError, Query(song, 0), "invalid-request"),
    ]
    for error, query, kind in refused:
        with pytest.raises(error) as caught:
            tiny_engine.attribute(query, quiet)
        assert caught.value.kind == kind


def test_a_changed_model_is_not_served_with_its_old_index(own_folder: Path):
    config = own_folder / "pipeline" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(IndexMismatch, match="made for model"):
        Engine.load(own_folder, "cpu")


def test_another_catalogue_is_not_served(own_folder: Path):
    table = own_folder / "songs.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(IndexMismatch, match="other songs"):
        Engine.load(own_folder, "cpu")


def test_a_folder_can_move(tiny_folder: Path, tiny_engine: Engine, tmp_path: Path):
    moved = Engine.load(shutil.copytree(tiny_folder, tmp_path / "elsewhere"), "cpu")
    assert (moved.model_digest, moved.index_digest) == (tiny_engine.model_digest, tiny_engine.index_digest)


def test_a_generated_track_is_written_as_it_was_made(tiny_folder: Path, tiny_engine: Engine, tmp_path: Path):
    out = tmp_path / "track.wav"
    options = ["--steps", "4", "--guidance", "3", "--seconds", "0.5", "--device", "cpu"]
    generate(["--model", str(tiny_folder), "--prompt", "noisy high drum", "--seed", "9", "--out", str(out), *options])
    heard, rate = soundfile.read(out, dtype="float32", always_2d=True)
    assert (heard.shape, rate, soundfile.info(out).subtype) == ((4000, 1), tiny.RATE, "PCM_16")
