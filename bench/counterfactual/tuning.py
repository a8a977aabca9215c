"""How far to step, and along what: chosen on tuning tracks, before any test track is looked at."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

from worker.attribution.gradients import exactly, mean_gradient
from worker.attribution.measure import Probe, exact_float32
from worker.attribution.noise import Grid
from worker.attribution.unlearn import Step, unlearn
from worker.forgetting import GRADIENT_DRAWS, SONG_DRAWS, Forgetter

if TYPE_CHECKING:
    from torch import Tensor

    from bench.counterfactual.subjects import Subject, Truth
    from worker.attribution.types import Params, Segments

STEPS = (5e-3, 1e-2, 2e-2)
DRAWS = 16


def tuned(forgetter: Forgetter, truth: Truth, subjects: list[Subject]) -> dict[str, Any]:
    """Return mean changes by direction and step over tuning tracks with a removal, and what to compare them with.

    unheard_gap: by how much recordings that the model never heard are known less than songs that it was trained on;
    a song whose own loss rises by that is as good as unknown.
    """
    asked = [subject for subject in subjects if subject.removed]
    found = [_tried(forgetter, truth, subject) for subject in asked]
    unheard = float(forgetter.measured({}, truth.unheard(forgetter.model), SONG_DRAWS).mean())
    trained = mean(each["song_loss"] for each in found)
    return {
        "tracks": len(found),
        "retrained": mean(subject.removed.get(subject.songs["top"], float("nan")) for subject in asked),
        "unheard_gap": unheard - trained,
        "settings": [_mean(found, direction, step) for direction in ("fisher", "plain") for step in STEPS],
    }


def _tried(forgetter: Forgetter, truth: Truth, subject: Subject) -> dict[str, Any]:
    """Forget each song of a track along each direction by each step."""
    model, config = forgetter.model, forgetter.index.config
    track, theta = truth.track(model, subject), model.params(config.weights)
    before, told = forgetter.measured({}, track, DRAWS), dict[str, Any]()
    for kind in ("top", "random"):
        song = forgetter.segments(forgetter.index.keys[subject.songs[kind]])
        known = forgetter.measured({}, song, SONG_DRAWS)
        for name, direction in _directions(forgetter, song).items():
            for step in STEPS:
                after = unlearn(theta, direction, Step(step))
                change = change_of(before, forgetter.measured(after, track, DRAWS))
                own = change_of(known, forgetter.measured(after, song, SONG_DRAWS))
                told[f"{kind} {name} {step}"] = (change, own)
        if kind == "top":
            told["song_loss"] = float(known.mean())
    return told


def change_of(before: Tensor, after: Tensor) -> float:
    """Return the mean rise of a measure."""
    return float((after.double() - before.double()).mean())


def _directions(forgetter: Forgetter, song: Segments) -> dict[str, Params]:
    index, model = forgetter.index, forgetter.model
    fisher = index.fisher(model.device)
    probe = Probe(index.config.unlearn_measure, Grid(index.config.grid_seed, GRADIENT_DRAWS), forgetter.batch)
    with exact_float32():
        gradient = mean_gradient(model, song, probe, exactly(fisher.diagonal))
    return {"fisher": fisher.direction(gradient), "plain": gradient}


def _mean(found: list[dict[str, Any]], direction: str, step: float) -> dict[str, Any]:
    changes = {kind: mean(each[f"{kind} {direction} {step}"][0] for each in found) for kind in ("top", "random")}
    own = mean(each[f"top {direction} {step}"][1] for each in found)
    return {"direction": direction, "step": step, **changes, "own": own}
