"""Say how often a track that was generated under a song's caption is traced to that song.

`python -m bench.caption_retrieval starter` generates one track for every caption of the training set, or for every so
many, posts it through the engine as the service would, with its prompt, and writes
bench/results/caption_retrieval.json. The caption is no
proof of influence: a song under a near caption may have done more. Only retraining could tell.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.hardware import RESULTS, save
from worker.diffusion.stable_audio import Sampling
from worker.engine import Engine, Query

FIRST_SEED = 5000


@dataclass(frozen=True)
class Traced:
    """One track: the song whose caption was its prompt, that song's rank, share and percentile, and the remainder."""

    key: str
    rank: int
    share: float
    percentile: float
    unattributed: float
    verdict: str
    seconds: float


def trace(engine: Engine, key: str, caption: str, seed: int) -> Traced:
    """Generate a track under `caption`, attribute it, and look where song `key` came."""
    track = engine.model.generate(caption, seed)
    ranking = engine.attribute(Query(track, engine.model.form.rate, caption), lambda _stage, _done: None)
    place = [row.key for row in ranking.influences].index(key)
    row = ranking.influences[place]
    return Traced(
        key=key,
        rank=place + 1,
        share=round(row.share, 4),
        percentile=row.percentile,
        unattributed=round(ranking.unattributed, 4),
        verdict=ranking.reliability["verdict"],
        seconds=round(sum(ranking.timings.values()), 2),
    )


def summary(traced: list[Traced]) -> dict[str, object]:
    """Counts and medians over all tracks."""
    ranks = np.array([t.rank for t in traced])
    verdicts = [t.verdict for t in traced]
    return {
        "n": len(traced),
        "top1": int((ranks == 1).sum()),
        "mean_rank": round(float(ranks.mean()), 3),
        "median_share": round(float(np.median([t.share for t in traced])), 3),
        "median_unattributed": round(float(np.median([t.unattributed for t in traced])), 3),
        "verdicts": {name: verdicts.count(name) for name in ("good", "fair", "poor")},
        "median_seconds": round(float(np.median([t.seconds for t in traced])), 2),
    }


def main() -> None:
    """Trace every caption and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--every", type=int, default=1, help="take every so many songs")
    options = parser.parse_args()
    engine = Engine.load(options.model, options.device)
    with (options.model / "songs.csv").open(newline="", encoding="utf-8") as file:
        songs = list(csv.DictReader(file))
    traced = []
    for number, row in list(enumerate(songs))[:: options.every]:
        traced.append(trace(engine, row["key"], row["caption"], FIRST_SEED + number))
        print(f"{number + 1}/{len(songs)} {row['key']}: rank {traced[-1].rank}", flush=True)
    result = {
        "command": f"python -m bench.caption_retrieval {options.model} --every {options.every}",
        "sampling": asdict(Sampling()),
        "first_seed": FIRST_SEED,
        "model_digest": engine.model_digest,
        "index_digest": engine.index_digest,
        **summary(traced),
        "rows": [asdict(t) for t in traced],
    }
    save(RESULTS / "caption_retrieval.json", result)
    print(f"{result['top1']} of {result['n']} first, mean rank {result['mean_rank']}")


if __name__ == "__main__":
    main()
