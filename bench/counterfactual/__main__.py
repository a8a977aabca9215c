"""Forget each track's best song, one by its artist and any one: `python -m bench.counterfactual starter`.

The tracks are generated ones whose prompts no song was trained under (`bench.faithfulness.queries`); the step was
chosen on tuning tracks, the figures are of test tracks. Songs are forgotten as the service does. Where a track has
models that were retrained without one song, what forgetting the song does is set beside what retraining did. Writes
bench/results/counterfactual.json. Tracks that were tried are kept in WORK, so a run that is started again goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.counterfactual.figures import RESAMPLES, SEED, agreement, effect
from bench.counterfactual.subjects import KINDS, SHIPPED, Subject, Truth
from bench.counterfactual.tuning import tuned
from bench.hardware import RESULTS, save
from worker.attribution.counterfactual import moved, shift
from worker.attribution.gradients import music_share
from worker.engine import Engine, batch_on
from worker.forgetting import GRADIENT_DRAWS, MEASURED_DRAWS, MEASURED_GRID, SONG_DRAWS, Forgetter, compared

if TYPE_CHECKING:
    from collections.abc import Callable


def tried(forgetter: Forgetter, truth: Truth, subject: Subject, *, heard: bool) -> dict[str, Any]:
    """Forget every song for one track: what that does to the track's loss, the song's own and, if `heard`, the sound.

    Returns place of the song → what it did, and the seconds that it all took.
    """
    began, model, track = time.perf_counter(), forgetter.model, truth.track(forgetter.model, subject)
    before, row = forgetter.measured({}, track, MEASURED_DRAWS), dict[str, Any]()
    baseline = model.generate(subject.prompt, subject.seed) if heard else None
    for place in dict.fromkeys((*subject.songs.values(), *subject.removed)):
        song = forgetter.segments(forgetter.index.keys[place])
        after = forgetter.without(song, lambda _: None)
        draws = moved(before, forgetter.measured(after, track, MEASURED_DRAWS), music_share(track))
        own = shift(forgetter.changes(song, after, SONG_DRAWS))
        row[str(place)] = {"change": asdict(shift(draws)), "own": asdict(own)}
        if baseline is not None and place in subject.songs.values():
            found = compared(baseline, model.having(after).generate(subject.prompt, subject.seed))
            row[str(place)]["apart"] = None if found is None else asdict(found)
    return row | {"seconds": round(time.perf_counter() - began, 1)}


def told_of(keys: list[str], subject: Subject, row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a track as the result tells it."""
    songs = {kind: {"song": keys[place], **row[str(place)]} for kind, place in subject.songs.items()}
    removed = [
        {"song": keys[place], "forgotten": row[str(place)]["change"]["mean"], "retrained": rise}
        for place, rise in subject.removed.items()
    ]
    named = {"track": subject.name, "prompt": subject.prompt, "seed": subject.seed, "matched_by": subject.matched_by}
    return named | songs | {"removed": removed, "seconds": row["seconds"]}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Say how much more the best song matters than others, for the loss and for the sound, and what retraining says."""
    told: dict[str, Any] = {"n": len(rows), "matched_by": _counted([row["matched_by"] for row in rows])}
    for other in KINDS[1:]:
        told[f"top_minus_{other}"] = effect([_loss(row, "top") - _loss(row, other) for row in rows])
    told["median_change"] = {kind: median(_loss(row, kind) for row in rows) for kind in KINDS}
    told["median_own"] = {kind: median(row[kind]["own"]["mean"] for row in rows) for kind in KINDS}
    pairs = [(each["forgotten"], each["retrained"], n) for n, row in enumerate(rows) for each in row["removed"]]
    if pairs:
        told["retraining"] = agreement(*map(list, zip(*pairs, strict=True)))  # type: ignore[arg-type]
    return told


def sounded(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Say how much further the sound moves without the best song than without others, in dB between log spectra."""
    told: dict[str, Any] = {"n": len(rows)}
    for other in KINDS[1:]:
        told[f"top_minus_{other}"] = effect([_sound(row, "top") - _sound(row, other) for row in rows])
    return told | {"median": {kind: median(_sound(row, kind) for row in rows) for kind in KINDS}}


def _loss(row: dict[str, Any], kind: str) -> float:
    return float(row[kind]["change"]["mean"])


def _sound(row: dict[str, Any], kind: str) -> float:
    return float(row[kind]["apart"]["spectral_db"])


def _counted(words: list[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what an earlier run left at `path`, else make and leave it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(make(), allow_nan=False))
        draft.replace(path)
    return dict(json.loads(path.read_text()))


def main() -> None:
    """Try every track, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tracks", type=int, default=24, help="how many test tracks")
    parser.add_argument("--heard", type=int, default=20, help="of how many of them the sound is compared too")
    parser.add_argument("--tune", action="store_true", help="repeat what the step was chosen by")
    parser.add_argument("--work", type=Path, default=Path("build/counterfactual"))
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    engine, truth = Engine.load(options.model, options.device), Truth.read()
    forgetter = Forgetter(engine.model, engine.index, batch_on(engine.model))
    place = options.work / engine.index_digest[:12]
    subjects, rows = truth.subjects("test")[: options.tracks], list[dict[str, Any]]()
    for number, subject in enumerate(subjects):
        heard = number < options.heard
        path = place / f"{subject.name}{'-heard' if heard else ''}.json"
        rows.append(
            told_of(engine.index.keys, subject, kept(path, partial(tried, forgetter, truth, subject, heard=heard)))
        )
        print(f"{subject.name}: {', '.join(f'{kind} {_loss(rows[-1], kind):+.4f}' for kind in KINDS)}", flush=True)
    config = engine.index.config
    how = {"step": config.unlearn_step, "fisher_damping": config.fisher_damping, "gradient_draws": GRADIENT_DRAWS}
    how |= {"draws": MEASURED_DRAWS, "grid_seed": MEASURED_GRID, "ranked_by": SHIPPED, "resamples": RESAMPLES}
    result = {
        "command": f"python -m bench.counterfactual {options.model} --tracks {options.tracks} --heard {options.heard}",
        "device": str(engine.model.device),
        "model_digest": engine.model_digest,
        "index_digest": engine.index_digest,
        "setting": how | {"seed": SEED},
        **summary(rows),
        "sound_db": sounded(rows[: options.heard]),
        "rows": rows,
    }
    if options.tune:
        result["tuning"] = kept(place / "tuning.json", partial(tuned, forgetter, truth, truth.subjects("tune")))
    save(RESULTS / "counterfactual.json", result)
    print(json.dumps({name: result[name] for name in ("n", "top_minus_random", "top_minus_matched")}, indent=1))


if __name__ == "__main__":
    main()
