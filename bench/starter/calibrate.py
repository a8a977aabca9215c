"""Fit what answers are weighed by: `python -m bench.starter.calibrate MODEL WORK`.

The gate: distances of tracks from what MODEL's autoencoder makes of them, for the model's own generations (clean, and
as mp3), held-out recordings and recordings trained on; kept in WORK/origins.json, measured where that is not there.
The scale: rises of the loss in models retrained without a track's best song, or its best five. Both are fitted on
tuning tracks and judged once on the others. Scores are those of MODEL/index, kept in WORK/index-scores.safetensors.
Writes MODEL/calibration.json, bench/results/gate.json and, beside the truth, for `bench.faithfulness.judge`, gate.json
and effects.safetensors, the predicted effects of removals.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.diffusion.stable_audio import Sampling, StableAudio, load  # first: it makes torchaudio importable

# isort: split
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.faithfulness.again import opened, song_scores
from bench.faithfulness.judge.coverage import Effects, response
from bench.faithfulness.judge.truth import panel
from bench.faithfulness.judge.work import Work
from bench.hardware import RESULTS, save
from bench.starter.prepare import HELD_OUT_WINDOWS, SEGMENTS, excerpt
from bench.starter.songs import split
from worker.attribution.calibrate import Bounds, Scale
from worker.attribution.provenance import Gate, fit_gate
from worker.calibration import Calibration, autoencoder_distance, score_digest
from worker.diffusion.windows import cut
from worker.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPRESSED_EVERY = 6
TRAINED_EVERY = 3
DIGITS = 4
MOST_SPREAD, ROUNDS = 3.0, 30


@dataclass(frozen=True)
class Origin:
    """A track of known origin; kind: generated, generated_mp3, held_out or trained; distance: from its rebuilt self."""

    name: str
    kind: str
    split: str
    distance: float

    @property
    def own(self) -> bool:
        """Whether the model made it."""
        return self.kind.startswith("generated")


def origins(model: StableAudio, work: Path, songs: Path) -> Iterator[Origin]:
    """Measure tracks that the model makes under the generated queries' prompts, and excerpts of recordings."""
    form = model.form

    def measured(name: str, kind: str, side: str, audio: Tensor) -> Origin:
        distance = autoencoder_distance(model.pipeline.vae, cut(audio, form.rate, form))
        if distance is None:
            raise ValueError(f"{name} is silent")
        return Origin(name, kind, side, distance)

    facts = json.loads((work / "queries.json").read_text())
    for number, fact in enumerate(f for f in facts if f["kind"] == "generated"):
        audio = torch.from_numpy(model.generate(fact["prompt"], fact["seed"], sampling=Sampling()))
        yield measured(fact["id"], "generated", fact["split"], audio)
        if number % COMPRESSED_EVERY == 0:
            yield measured(fact["id"], "generated_mp3", fact["split"], compressed(audio, form.rate))
    sides = {fact["song"]: fact["split"] for fact in facts if fact["kind"] == "held_out"}
    length = SEGMENTS * form.samples
    for song in split().held_out:
        samples = excerpt(song, songs, length).samples
        for window in HELD_OUT_WINDOWS:
            part = samples[window * form.samples : (window + 1) * form.samples]
            yield measured(f"{song.key}-{window}", "held_out", sides[song.key], part[None])
    for number, song in list(enumerate(split().trained))[::TRAINED_EVERY]:
        part = excerpt(song, songs, length).samples[: form.samples]
        yield measured(song.key, "trained", "tune" if number % 2 else "test", part[None])


def compressed(audio: Tensor, rate: int) -> Tensor:
    """Return `audio` [1, n] after a lossy file of about 64 kbit/s."""
    file = io.BytesIO()
    soundfile.write(file, audio.T.numpy(), rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.8)
    file.seek(0)
    heard, _ = soundfile.read(file, dtype="float32", always_2d=True)
    return torch.from_numpy(heard.T.copy())[:, : audio.shape[-1]]


def gate_of(found: list[Origin]) -> Gate:
    """Fit the gate to the tuning tracks; own tracks weigh as much as others, held-out as much as trained ones."""
    tune = [origin for origin in found if origin.split == "tune"]
    groups = [("generated", "generated_mp3"), ("held_out",), ("trained",)]
    weight = dict(zip(groups, (0.5, 0.25, 0.25), strict=True))
    size = {kinds: sum(origin.kind in kinds for origin in tune) for kinds in groups}
    each = {kind: len(tune) * weight[kinds] / max(1, size[kinds]) for kinds in groups for kind in kinds}
    return fit_gate(
        torch.tensor([origin.distance for origin in tune]),
        torch.tensor([origin.own for origin in tune]),
        torch.tensor([each[origin.kind] for origin in tune]),
    )


def verdicts(gate: Gate, found: list[Origin], side: str) -> dict[str, Any]:
    """Count the verdicts on the tracks of one side, and the range of their distances."""
    told: dict[str, Any] = {}
    for kind in dict.fromkeys(origin.kind for origin in found):
        distances = [origin.distance for origin in found if (origin.kind, origin.split) == (kind, side)]
        given = [gate.judge(distance).verdict for distance in distances]
        shares = {v: round(given.count(v) / len(given), DIGITS) for v in ("own", "unsure", "foreign")}
        quantiles = torch.tensor(distances).quantile(torch.tensor([0.0, 0.05, 0.5, 0.95, 1.0])).tolist()
        told[kind] = {"tracks": len(given), **shares, "distance": [round(x, DIGITS) for x in quantiles]}
    return told


@dataclass(frozen=True)
class Removals:
    """What single retrainings without a group of songs showed, [n] each.

    score: the group's sum of positive scores; rise: of the loss of `query` over the mean of the models of all songs;
    deviation: of that query's loss among the models of all songs; size: songs in the group.
    """

    score: Tensor
    rise: Tensor
    deviation: Tensor
    query: Tensor
    size: Tensor
    models: int

    @staticmethod
    def load(folder: Path, scores: Tensor) -> Removals:
        """Read the committed truth in `folder`; scores [q, songs] of the queries that groups were chosen for."""
        stored, every = (load_file(folder / f"truth-{name}.safetensors") for name in ("removals", "full"))
        full = every["losses"].double()
        groups = {group["mask"]: group for group in json.loads((folder / "removals.json").read_text())}
        chosen = [groups[mask] for mask in stored["mask"].tolist()]
        query = torch.tensor([group["query"] for group in chosen])
        losses = stored["losses"].double().gather(1, query[:, None])[:, 0]
        return Removals(
            score=torch.stack([scores[g["query"]][g["songs"]].double().clamp(min=0).sum() for g in chosen]),
            rise=losses - full.mean(0)[query],
            deviation=full.std(0)[query],
            query=query,
            size=torch.tensor([len(group["songs"]) for group in chosen]),
            models=len(full),
        )

    def of(self, chosen: Tensor) -> Removals:
        """Return the retrainings `chosen` [n] bool."""
        columns = (x[chosen] for x in (self.score, self.rise, self.deviation, self.query, self.size))
        return Removals(*columns, self.models)

    def effects(self, scale: Scale) -> dict[str, Tensor]:
        """Return predicted rises with stated bounds beside the retrained ones."""
        bounds = scale.bounds(self.score, Bounds(self.score, self.score))
        predicted = {"predicted": scale.effect(self.score), "low": bounds.low, "high": bounds.high}
        return predicted | {"retrained": self.rise, "query": self.query, "songs": self.size}


def scale_of(found: Removals) -> Scale:
    """Fit r = b · s + e, var e = noise² + (spread · b · s)², by maximum likelihood; noise is known.

    noise²: mean variance of a loss among the models of all songs, of a single one less the mean of them all.
    """
    s, r = found.score, found.rise
    noise = float(found.deviation.square().mean() * (1 + 1 / found.models)) ** 0.5
    fits = [_slope(s, r, noise, spread) for spread in torch.linspace(0, MOST_SPREAD, 301).tolist()]
    _, slope, spread = max(fits)
    return Scale(slope, spread, noise)


def _slope(s: Tensor, r: Tensor, noise: float, spread: float) -> tuple[float, float, float]:
    """Return likelihood, the slope that is best under `spread`, and `spread`."""
    variance = torch.full_like(s, noise**2)
    for _ in range(ROUNDS):
        slope = float((r * s / variance).sum() / (s * s / variance).sum())
        variance = noise**2 + (spread * slope * s).square()
    return float(-0.5 * ((r - slope * s).square() / variance + variance.log()).sum()), slope, spread


def scale_report(folder: Path, scores: Tensor) -> tuple[Scale, dict[str, Any], dict[str, Tensor]]:
    """Fit the scale on tuning queries and judge it on the others; scores [q, songs] in the index's own unit."""
    known = Removals.load(folder, scores)
    tuning = set(panel(Work(folder).queries, "generated", "tune").tolist())
    tuned = torch.tensor([query in tuning for query in known.query.tolist()])
    scale = scale_of(known.of(tuned))
    told: dict[str, Any] = {"fitted": asdict(scale)}
    for side, found in (("tune", known.of(tuned)), ("test", known.of(~tuned))):
        told[side] = {f"of {n}": _answered(found.of(found.size == n), scale) for n in sorted(set(found.size.tolist()))}
        told[side]["all"] = _answered(found, scale)
    return scale, told, known.of(~tuned).effects(scale)


def _answered(found: Removals, scale: Scale) -> dict[str, Any]:
    each = found.effects(scale)
    stated = response(Effects(*(each[n] for n in ("predicted", "low", "high", "retrained", "query"))))
    return {
        "retrainings": stated.n,
        "mean_predicted": round(float(each["predicted"].mean()), DIGITS),
        "mean_retrained": round(float(each["retrained"].mean()), DIGITS),
        "slope": asdict(stated.slope),
        "spearman": round(stated.spearman, DIGITS),
        "covered": asdict(stated.covered),
    }


def scores_of(folder: Path, work: Path, manifest: Manifest) -> Tensor:
    """Return the song scores of all queries, from WORK where the same kind of index gave them before: [q, songs]."""
    kept, name = work / "index-scores.safetensors", score_digest(manifest)
    if not kept.exists() or name not in load_file(kept):
        facts = json.loads((work / "queries.json").read_text())
        latents = load_file(work / "queries.safetensors")["latents"]
        save_file({name: song_scores(*opened(folder), latents, facts).contiguous()}, kept)
    return load_file(kept)[name]


def main() -> None:
    """Measure what is missing, fit, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--songs", type=Path, default=Path("build/songs"), help="what `bench.starter.fetch` fetched")
    parser.add_argument("--truth", type=Path, default=RESULTS / "faithfulness")
    options = parser.parse_args()
    kept = options.work / "origins.json"
    if not kept.exists():
        rows = [asdict(o) for o in origins(load(options.model / "pipeline", "cpu"), options.work, options.songs)]
        kept.write_text(json.dumps(rows, indent=0) + "\n")
    found = [Origin(**row) for row in json.loads(kept.read_text())]
    gate = gate_of(found)
    manifest = Manifest.read(options.model / "index")
    scale, told, effects = scale_report(options.truth, scores_of(options.model, options.work, manifest))
    save_file(effects, options.truth / "effects.safetensors")
    print(Calibration(manifest.model_digest, score_digest(manifest), gate, scale).save(options.model))
    result = {
        "command": "python -m bench.starter.calibrate MODEL WORK",
        "gate": {"fitted": asdict(gate), **{side: verdicts(gate, found, side) for side in ("tune", "test")}},
        "scale": told,
    }
    print(json.dumps(result, indent=1))
    print(save(RESULTS / "gate.json", result))
    (options.truth / "gate.json").write_text(json.dumps(result["gate"], indent=1) + "\n")


if __name__ == "__main__":
    main()
