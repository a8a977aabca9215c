"""Does an excerpt of a training song find its own song? Cut off-grid and re-encoded as 64 kbit/s mp3, it must.

`python -m bench.self_retrieval cut build/songs build/excerpts` cuts the excerpts from the original recordings, with
`--clean` on the grid of the segments trained on and without loss;
`python -m bench.self_retrieval score starter build/excerpts` asks the engine, which is told no prompt, and writes
bench/results/self_retrieval.json. Necessary for attribution, not sufficient: an audio fingerprint passes it too.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from bench.hardware import save
from bench.starter.prepare import SEGMENTS
from worker.engine import Engine, Query

SECONDS = 10.0
SEGMENT_S = 10.24
TRAINED_S = SEGMENTS * SEGMENT_S
OFF_GRID_S = 1.0
KBIT_S = 64
SEED = 20251
SPLITS = ("test", "tune")


@dataclass(frozen=True)
class Excerpt:
    """Ten seconds of a training song: which, where in the recording, and the file that holds it."""

    key: str
    start_s: float
    file: str
    kbit_s: float


@dataclass(frozen=True)
class Found:
    """Where an excerpt's own song came in the ranking, and what came first."""

    key: str
    rank: int
    first: str
    seconds: float


@dataclass(frozen=True)
class Cut:
    """Which songs' excerpts, how many, and whether each is one segment trained on, without loss."""

    split: str
    count: int
    clean: bool = False


def cut(songs: Path, out: Path, facts: list[dict[str, str]], how: Cut) -> list[Excerpt]:
    """Cut one excerpt from each of `how.count` songs, as mp3 at least a second off the segment grid, or clean.

    The songs of the splits are disjoint: settings are chosen on one half of the songs, and reported on the other.
    """
    source = random.Random(SEED)  # noqa: S311
    shuffled = source.sample(facts, len(facts))
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for row in shuffled[SPLITS.index(how.split) :: len(SPLITS)][: how.count]:
        begin = source.randrange(SEGMENTS) * SEGMENT_S if how.clean else _off_grid(source)
        start = float(row["start_s"]) + begin
        path = songs / row["package"] / row["path"]
        with soundfile.SoundFile(path) as file:
            file.seek(int(start * file.samplerate))
            length = SEGMENT_S if how.clean else SECONDS
            samples = file.read(int(length * file.samplerate), dtype="float32", always_2d=True)
            rate = file.samplerate
        target = out / f"{how.split}-{row['key']}{'.flac' if how.clean else '.mp3'}"
        coding = {} if how.clean else {"bitrate_mode": "CONSTANT", "compression_level": _level(rate)}
        with soundfile.SoundFile(target, "w", rate, min(samples.shape[1], 2), **coding) as file:
            file.write(samples[:, :2])
        made.append(Excerpt(row["key"], round(start, 3), target.name, _kbit_s(target)))
    return made


def score(engine: Engine, excerpts: list[Excerpt], folder: Path, method: str) -> list[Found]:
    """Ask the engine about every excerpt."""
    found = []
    for number, excerpt in enumerate(excerpts):
        samples, rate = soundfile.read(folder / excerpt.file, dtype="float32", always_2d=True)
        query = Query(np.ascontiguousarray(samples.T), rate, None, method)
        ranking = engine.attribute(query, lambda _stage, _done: None)
        keys = [row.key for row in ranking.influences]
        found.append(Found(excerpt.key, keys.index(excerpt.key) + 1, keys[0], sum(ranking.timings.values())))
        print(f"{number + 1}/{len(excerpts)} {excerpt.key}: rank {found[-1].rank}", flush=True)
    return found


def summary(found: list[Found], excerpts: list[Excerpt]) -> dict[str, object]:
    """The figures: how many, how many first, mean rank."""
    ranks = np.array([f.rank for f in found])
    return {
        "n": len(found),
        "top1": int((ranks == 1).sum()),
        "mean_rank": round(float(ranks.mean()), 3),
        "median_seconds": round(float(np.median([f.seconds for f in found])), 2),
        "kbit_s": sorted({round(e.kbit_s) for e in excerpts}),
        "rows": [asdict(f) for f in found],
    }


def _flags(options: argparse.Namespace) -> str:
    return f"--split {options.split} --method {options.method}"


def _off_grid(source: random.Random) -> float:
    while True:
        begin = source.uniform(0, TRAINED_S - SECONDS)
        if OFF_GRID_S <= begin % SEGMENT_S <= SEGMENT_S - OFF_GRID_S:
            return begin


def _level(rate: int) -> float:
    """The compression level of libsndfile, 0 to 1, for a constant 64 kbit/s; it spans the MPEG version's rates."""
    highest, lowest = (320, 32) if rate >= 32000 else (160, 8)
    return (highest - KBIT_S) / (highest - lowest)


def _kbit_s(path: Path) -> float:
    info = soundfile.info(path)
    return path.stat().st_size * 8 / info.duration / 1000


def _cut(options: argparse.Namespace) -> None:
    with (options.model / "songs.csv").open(newline="") as file:
        facts = list(csv.DictReader(file))
    made = cut(options.songs, options.excerpts, facts, Cut(options.split, options.count, options.clean))
    (options.excerpts / f"{options.split}.json").write_text(json.dumps([asdict(e) for e in made], indent=1))
    print(f"{len(made)} excerpts, {min(e.kbit_s for e in made):.0f} to {max(e.kbit_s for e in made):.0f} kbit/s")


def _score(options: argparse.Namespace) -> None:
    excerpts = [Excerpt(**e) for e in json.loads((options.excerpts / f"{options.split}.json").read_text())]
    engine = Engine.load(options.model, options.device)
    found = score(engine, excerpts, options.excerpts, options.method)
    result = {
        "command": f"python -m bench.self_retrieval score {options.model} EXCERPTS {_flags(options)}",
        "split_seed": SEED,
        "method": options.method,
        "model_digest": engine.model_digest,
        "index_digest": engine.index_digest,
        **summary(found, excerpts),
    }
    save(options.out, result)
    print(f"{result['top1']} of {result['n']} first, mean rank {result['mean_rank']}")


def main() -> None:
    """Cut, or score."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    cutting = commands.add_parser("cut")
    cutting.add_argument("songs", type=Path, help="where bench.starter.fetch unpacked the songs")
    cutting.add_argument("excerpts", type=Path)
    cutting.add_argument("--model", type=Path, default=Path("starter"))
    cutting.add_argument("--count", type=int, default=40)
    cutting.add_argument("--clean", action="store_true", help="whole segments trained on, without loss")
    cutting.set_defaults(run=_cut)
    scoring = commands.add_parser("score")
    scoring.add_argument("model", type=Path)
    scoring.add_argument("excerpts", type=Path)
    scoring.add_argument("--method", default="index", choices=("index", "unlearn"))
    scoring.add_argument("--device", default="auto")
    scoring.add_argument("--out", type=Path, default=Path("bench/results/self_retrieval.json"))
    scoring.set_defaults(run=_score)
    for command in (cutting, scoring):
        command.add_argument("--split", default="test", choices=SPLITS)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
