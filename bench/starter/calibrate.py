"""Fit what answers are weighed by: `python -m bench.starter.calibrate MODEL WORK`.

The gate: distances of tracks from what MODEL's autoencoder makes of them, for the model's own generations (clean, and
as mp3), held-out recordings and recordings trained on; kept in WORK/origins.json, measured where that is not there.
The scale: rises of the loss in models retrained on halves of the songs, from the committed truth and scores. Both are
fitted on tuning tracks and subsets and judged once on the others. Scores are those of MODEL/index, kept in
WORK/index-scores.safetensors. Writes MODEL/calibration.json, bench/results/gate.json and, beside the truth, for
`bench.faithfulness.judge`, gate.json and the predicted effects of removals, effects.safetensors.
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

from bench.faithfulness.judge.coverage import Effects, response
from bench.faithfulness.judge.truth import Family, panel
from bench.faithfulness.judge.work import Work
from bench.faithfulness.setting import query_segments
from bench.hardware import RESULTS, save
from bench.starter.prepare import HELD_OUT_WINDOWS, SEGMENTS, excerpt
from bench.starter.songs import split
from worker.attribution.calibrate import Scale
from worker.attribution.provenance import Gate, fit_gate
from worker.calibration import Calibration, autoencoder_distance, score_digest
from worker.diffusion.layout import digest
from worker.diffusion.windows import cut
from worker.engine import song_keys
from worker.index import Expected, Index, gradient_rows, row_requests
from worker.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

TOGETHER = 64
COMPRESSED_EVERY = 6
TRAINED_EVERY = 3
DIGITS = 4
CENTRAL = 0.9
NORMAL = 1.645  # of the normal distribution: 90 % lie within so many deviations


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
class Rises:
    """What retraining showed: rise [q, m] over the mean of models of all songs; scores of what was removed [q, m]."""

    rise: Tensor
    removed: Tensor

    @staticmethod
    def of(family: Family, full: Tensor, scores: Tensor, asked: Tensor) -> Rises:
        """Take the queries `asked`; full [q]: losses of models of all songs; scores [q, songs]."""
        rise = (family.losses.mean(0) - full)[:, asked].mT
        return Rises(rise, scores[asked].double() @ (~family.kept).double().mT)

    def centred(self) -> tuple[Tensor, Tensor]:
        """Return rise and removed score without each query's mean over the subsets."""
        return (x - x.mean(1, keepdim=True) for x in (self.rise, self.removed))  # type: ignore[return-value]

    def slopes(self) -> Tensor:
        """Return every query's own slope of rise on removed score over the subsets: [q]."""
        rise, removed = self.centred()
        return (rise * removed).sum(1) / removed.square().sum(1)

    def told(self, scale: Scale) -> dict[str, float]:
        """Return how the retrained rises follow the predicted ones: 1 is to scale."""
        rise, removed = self.centred()
        predicted = scale.slope * removed
        found = {
            "slope": float((rise * predicted).sum() / predicted.square().sum()),
            "median_slope": float(self.slopes().median()) / scale.slope,
            "correlation": float(torch.corrcoef(torch.stack([rise.flatten(), predicted.flatten()]))[0, 1]),
            "median_correlation": float(_correlations(rise, predicted).median()),
            "slopes_within": float(((self.slopes() >= scale.low) & (self.slopes() <= scale.high)).double().mean()),
        }
        return {name: round(value, DIGITS) for name, value in found.items()}


def _correlations(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def scale_of(rises: Rises) -> Scale:
    """Return the median of the queries' slopes, and the bounds that hold 90 % of them."""
    tail = (1 - CENTRAL) / 2
    low, middle, high = rises.slopes().quantile(torch.tensor([tail, 0.5, 1 - tail], dtype=torch.float64)).tolist()
    return Scale(middle, max(0.0, low), high)


def removals(folder: Path, scores: Tensor, scale: Scale) -> dict[str, Tensor]:
    """Return predicted effect with bounds and retrained rise of every removed group, mean over its seeds: [n] each.

    noise: 90 % of what another seed would do to the rise, from the spread of the models of all songs.
    """
    stored, every = (load_file(folder / f"truth-{name}.safetensors") for name in ("removals", "full"))
    full = every["losses"].double()
    groups = {group["mask"]: group for group in json.loads((folder / "removals.json").read_text())}
    rows: list[tuple[float, ...]] = []
    for mask in sorted(set(stored["mask"].tolist())):
        query, songs = groups[mask]["query"], groups[mask]["songs"]
        losses = stored["losses"][stored["mask"] == mask].double()[:, query]
        score = float(scores[query][songs].double().clamp(min=0).sum())
        noise = NORMAL * float(full[:, query].std()) * (1 / len(losses) + 1 / len(full)) ** 0.5
        bounds = (scale.slope * score, scale.low * score, scale.high * score)
        rows.append((*bounds, float(losses.mean() - full[:, query].mean()), noise, query, len(songs)))
    columns = torch.tensor(rows, dtype=torch.float64).mT
    names = ("predicted", "low", "high", "retrained", "noise", "query", "songs")
    return {name: column.contiguous() for name, column in zip(names, columns, strict=True)}


def scale_report(folder: Path, scores: Tensor) -> tuple[Scale, dict[str, Any], dict[str, Tensor]]:
    """Fit the scale on tuning queries and subsets, judge it on the others and on removals.

    scores: of the generated queries, which come first, in the index's own unit [generated, songs].
    """
    work = Work(folder)
    halves = work.families["halves"]
    full = load_file(folder / "truth-full.safetensors")["losses"].double().mean(0)
    sides = {"tune": halves.subsets(halves.tuning), "test": halves.subsets(~halves.tuning)}
    scale = scale_of(Rises.of(sides["tune"], full, scores, panel(work.queries, "generated", "tune")))
    told: dict[str, Any] = {"fitted": asdict(scale)}
    for side, family in sides.items():
        told[side] = Rises.of(family, full, scores, panel(work.queries, "generated", side)).told(scale)
    found = removals(folder, scores, scale)
    told["removals"] = {f"of {count}": _answered(found, count) for count in (1, 5)}
    return scale, told, found


def index_scores(model: StableAudio, index: Index, work: Path) -> Tensor:
    """Return the song scores of the generated queries by `index` as the service gives them: [generated, songs]."""
    facts = [f for f in json.loads((work / "queries.json").read_text()) if f["kind"] == "generated"]
    latents = load_file(work / "queries.safetensors")["latents"][: len(facts)].float()
    rows = gradient_rows(model, query_segments(model, latents, facts), row_requests(index.config, TOGETHER))[0]
    return index.song_scores(index.scan(index.solved(rows)))


def _answered(found: dict[str, Tensor], count: int) -> dict[str, Any]:
    each = {name: column[found["songs"] == count] for name, column in found.items()}
    stated = response(Effects(*(each[n] for n in ("predicted", "low", "high", "retrained", "query"))))
    low, high = each["low"] - each["noise"], each["high"] + each["noise"]
    allowed = response(Effects(each["predicted"], low, high, each["retrained"], each["query"]))
    return {
        "groups": stated.n,
        "slope": asdict(stated.slope),
        "spearman": round(stated.spearman, DIGITS),
        "covered": asdict(stated.covered),
        "covered_with_noise_of_retraining": asdict(allowed.covered),
    }


def scores_of(folder: Path, work: Path, manifest: Manifest) -> Tensor:
    """Return `index_scores`, from WORK where the same kind of index gave them before."""
    kept, name = work / "index-scores.safetensors", score_digest(manifest)
    if not kept.exists() or name not in load_file(kept):
        expected = Expected(digest(folder / "pipeline"), song_keys(folder / "songs.csv"))
        index = Index.open(folder / "index", expected)
        save_file({name: index_scores(load(folder / "pipeline", "cpu"), index, work).contiguous()}, kept)
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
