"""What was fitted is read back as it was written, refused where it is foreign, and weighs an answer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import tiny
from worker.attribution.calibrate import Scale
from worker.attribution.provenance import Gate
from worker.calibration import NAME, Calibration, autoencoder_distance, score_digest
from worker.diffusion.windows import cut
from worker.engine import Engine, Query, Ranking
from worker.manifest import IndexMismatch

# Everything that the tiny autoencoder leaves as it is below a distance of 1 is its own.
GATE = Gate(0.0, -20.0)
SCALE = Scale(1e-3, 0.5, 1e-4)


def quiet(stage: str, progress: float) -> None:
    assert stage
    assert 0 <= progress <= 1


def fitted(engine: Engine) -> Calibration:
    return Calibration(engine.model_digest, score_digest(engine.index.manifest), GATE, SCALE)


def asked(engine: Engine, calibration: Calibration | None, method: str = "index") -> Ranking:
    weighing = Engine(engine.model, engine.index, calibration=calibration)
    return weighing.attribute(
        Query(engine.model.generate("fast low tune", 5), tiny.RATE, "fast low tune", method), quiet
    )


def gated(engine: Engine, intercept: float) -> Calibration:
    return replace(fitted(engine), gate=Gate(intercept, 0.0))


def test_a_calibration_is_read_as_it_was_written(tiny_engine: Engine, tmp_path: Path) -> None:
    manifest = tiny_engine.index.manifest
    assert Calibration.read(tmp_path, manifest) is None
    written = fitted(tiny_engine)
    assert written.save(tmp_path) == tmp_path / NAME
    assert Calibration.read(tmp_path, manifest) == written


@pytest.mark.parametrize(
    "changes",
    [{"model_digest": "f" * 64}, {"scored_by": "0" * 64}, {"format": 99}, {"gate": {}}, {"scale": {"slope": -1}}],
)
def test_a_foreign_or_broken_calibration_is_refused(own_folder: Path, tiny_engine: Engine, changes: dict) -> None:
    path = fitted(tiny_engine).save(own_folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(IndexMismatch, match="calibration"):
        Engine.load(own_folder, "cpu")


def test_an_engine_loads_the_calibration_beside_its_index(own_folder: Path, tiny_engine: Engine) -> None:
    assert Engine.load(own_folder, "cpu").calibration is None
    fitted(tiny_engine).save(own_folder)
    assert Engine.load(own_folder, "cpu").calibration == fitted(tiny_engine)


def test_without_a_calibration_the_answer_says_so(tiny_engine: Engine) -> None:
    answer = asked(tiny_engine, None)
    assert (answer.provenance.verdict, answer.provenance.probability) == ("unknown", None)
    assert not answer.calibrated
    assert all(row.effect is None for row in answer.influences)


def test_shares_are_effects_in_parts_of_what_the_model_knows(tiny_engine: Engine) -> None:
    answer = asked(tiny_engine, gated(tiny_engine, 50.0))
    assert answer.provenance.verdict == "own"
    assert answer.calibrated
    assert answer.reference_loss > 0
    assert all(row.effect == pytest.approx(SCALE.slope * max(row.score, 0)) for row in answer.influences)
    if answer.abstained is None:
        whole = max(answer.reference_loss, sum(r.effect for r in answer.influences if r.percentile > 95))
        for row in answer.influences:
            assert row.share in (0, pytest.approx(row.effect / whole, rel=0.05))
    for row in answer.influences:
        assert row.interval.share_low <= row.share <= row.interval.share_high + 1e-12
        assert row.interval.score_low <= row.score <= row.interval.score_high


def test_a_foreign_track_gets_its_ranking_and_no_shares(tiny_engine: Engine) -> None:
    answer = asked(tiny_engine, gated(tiny_engine, -50.0))
    assert answer.provenance.verdict == "foreign"
    assert answer.abstained is not None
    assert (answer.unattributed, {row.share for row in answer.influences}) == (1.0, {0.0})
    assert [row.key for row in answer.influences] == [row.key for row in asked(tiny_engine, None).influences]


def test_the_scale_is_of_the_index_alone(tiny_engine: Engine) -> None:
    assert not asked(tiny_engine, gated(tiny_engine, 50.0), "unlearn").calibrated


def test_the_models_own_tracks_survive_its_autoencoder_better_than_songs_do(tiny_engine: Engine) -> None:
    model = tiny_engine.model

    def distance(samples: torch.Tensor) -> float:
        found = autoencoder_distance(model.pipeline.vae, cut(samples, tiny.RATE, model.form))
        assert found is not None
        return found

    own = [distance(torch.from_numpy(model.generate(song.caption, 7))) for song in tiny.SONGS]
    songs = [distance(torch.from_numpy(song.samples())) for song in tiny.SONGS]
    assert sum(own) / len(own) < sum(songs) / len(songs)
    silence = cut(torch.zeros(1, tiny.WINDOW), tiny.RATE, model.form)
    assert autoencoder_distance(model.pipeline.vae, silence) is None
