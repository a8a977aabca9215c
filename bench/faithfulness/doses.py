"""A model in which the cause is known: `python -m bench.faithfulness.doses WORK MODEL NUMBER`.

Songs are trained on 0, 1, 2, 4, 8 or 16 times (`subsets.doses`), and tracks are generated under the caption of every
dosed song, also of those never trained on. MODEL/pipeline is the trained model; MODEL holds queries and training set
for `bench.faithfulness.score`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.faithfulness.queries import QueryFacts, tracks
from bench.faithfulness.subsets import doses
from bench.starter.pipeline import captions_of
from bench.starter.train import Cohort, Recipe, Run, initial_weights, learners, save_trained

from worker.diffusion.layout import digest  # isort: skip
from worker.diffusion.stable_audio import load

TRACKS = 2
FIRST_SEED = 7_000


def asked(captions: list[str], copies: tuple[int, ...], keys: list[str]) -> list[QueryFacts]:
    """Return `TRACKS` queries under the caption of every song not trained on exactly once, and of some that are."""
    once = [n for n, count in enumerate(copies) if count == 1]
    others = [n for n, count in enumerate(copies) if count != 1]
    each = sum(copies[n] == 0 for n in others)
    return [
        QueryFacts(
            f"{keys[n]}-{take}", "generated", "caption", "test", captions[n], FIRST_SEED + TRACKS * n + take, keys[n]
        )
        for n in sorted(others + once[:: max(1, len(once) // each)][:each])
        for take in range(TRACKS)
    ]


def main() -> None:
    """Train, generate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    options = parser.parse_args()
    recipe, copies = Recipe(epochs=options.epochs), doses(options.number)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    (learner,) = learners(options.work, recipe, device)
    drawn = tuple(song for song, count in enumerate(copies) for _ in range(count))
    seed = 100 + options.number
    Cohort([learner]).train([Run(drawn, seed, recipe.steps(len(drawn)))], [initial_weights(learner, seed)])
    shutil.copytree(options.work / "pipeline", options.model / "pipeline", dirs_exist_ok=True)
    save_trained(learner, options.model / "pipeline")
    model = load(options.model / "pipeline", device)
    with (options.work / "songs.csv").open(newline="") as file:
        keys = [line.partition(",")[0] for line in file.read().splitlines()[1:]]
    facts = asked(captions_of(options.work), copies, keys)
    latents = tracks(model, [f.prompt or "" for f in facts], [f.seed or 0 for f in facts])
    rows = [asdict(f) | {"model_digest": digest(options.model / "pipeline")} for f in facts]
    (options.model / "queries.json").write_text(json.dumps(rows, indent=0) + "\n")
    (options.model / "doses.json").write_text(json.dumps(copies) + "\n")
    save_file({"latents": latents.half().contiguous()}, options.model / "queries.safetensors")


if __name__ == "__main__":
    main()
