"""Training output in, model folder out: `python -m bench.starter.assemble build/starter starter`.

Cuts every excerpt into the segments that the index will hold, makes prompts that are no song's caption, and copies
pipeline, song facts and training record. The index itself is built by `worker.build`.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

import torch

from bench.starter.pipeline import captions_of
from bench.starter.prepare import unpacked
from bench.starter.prompts import BACKGROUND, mixed
from bench.starter.train import FRAME_S
from worker.training import TrainingSet, TrainingSong

# The demonstration asks for what one training song was described as, so that a newcomer can judge the answer.
DEMO = 12


def training_set(folder: Path, frames: int) -> TrainingSet:
    """Every excerpt's consecutive windows of `frames` latent frames, as trained on."""
    latents = unpacked(folder / "latents.safetensors")[:, 0]
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
    chosen = {"demo": words[DEMO], "background": mixed(words, BACKGROUND)}
    (options.model / "prompts.json").write_text(json.dumps(chosen, indent=1) + "\n")
    frames = json.loads((options.model / "pipeline/transformer/config.json").read_text())["sample_size"]
    training_set(options.trained, frames).save(options.trained / "training.safetensors")


if __name__ == "__main__":
    main()
