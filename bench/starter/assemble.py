"""Training output in, model folder out: `python -m bench.starter.assemble build/starter starter`.

Cuts every excerpt into the segments that the index will hold, makes prompts that are no song's caption, and copies
pipeline, song facts and training record. The index itself is built by `worker.build`.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from bench.starter.pipeline import captions_of
from bench.starter.train import FRAME_S
from worker.training import TrainingSet, TrainingSong

PROMPTS = 64
# The demonstration asks for what one training song was described as, so that a newcomer can judge the answer.
DEMO = 12


def training_set(folder: Path, frames: int) -> TrainingSet:
    """Every excerpt's consecutive windows of `frames` latent frames, as trained on."""
    latents = load_file(folder / "latents.safetensors")["latents"]
    with (folder / "songs.csv").open(newline="") as file:
        songs = [TrainingSong(row["key"], row["caption"], float(row["start_s"])) for row in csv.DictReader(file)]
    count, channels, length = latents.shape
    windows = length // frames
    segments = latents.reshape(count, channels, windows, frames).transpose(1, 2).flatten(0, 1)
    return TrainingSet(
        songs=tuple(songs),
        latents=segments.contiguous(),
        mask=torch.ones(count * windows, frames),
        song=torch.arange(count).repeat_interleave(windows),
        weight=torch.ones(count * windows),
        starts=(torch.arange(windows) * frames * FRAME_S).repeat(count),
        totals=torch.full((count * windows,), length * FRAME_S),
    )


def prompts(captions: list[str], count: int, seed: int = 0) -> list[str]:
    """Mix the words of the captions, place by place, into prompts that no song was trained under."""
    source, places = random.Random(seed), list(zip(*(c.split() for c in captions), strict=True))  # noqa: S311
    made: list[str] = []
    while len(made) < count:
        words = [source.choice(place) for place in places]
        words[0] = "slow" if int(words[-2]) < 90 else "fast" if int(words[-2]) > 130 else "medium"
        prompt = " ".join(words)
        if prompt not in captions and prompt not in made:
            made.append(prompt)
    return made


def main() -> None:
    """Write the model folder without its index, and the training set beside the training data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    shutil.copytree(options.trained / "pipeline", options.model / "pipeline", dirs_exist_ok=True)
    for name in ("songs.csv", "training.json"):
        shutil.copy(options.trained / name, options.model / name)
    words = captions_of(options.trained)
    chosen = {"demo": words[DEMO], "background": prompts(words, PROMPTS)}
    (options.model / "prompts.json").write_text(json.dumps(chosen, indent=1) + "\n")
    frames = json.loads((options.model / "pipeline/transformer/config.json").read_text())["sample_size"]
    training_set(options.trained, frames).save(options.trained / "training.safetensors")


if __name__ == "__main__":
    main()
