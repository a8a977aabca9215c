"""One model, its training segments and the queries, ready on a device: what every attribution method is given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.diffusion.stable_audio import load  # first: it makes torchaudio, and so diffusers, importable

# isort: split
import torch
from safetensors.torch import load_file
from torch import Tensor

from worker.attribution.types import Conditioning, Model, Segments
from worker.training import TrainingSet

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from worker.diffusion.stable_audio import StableAudio

SPLITS = ("tune", "test", "all")


@dataclass(frozen=True)
class Setting:
    """A model with its training segments and all queries, on the model's device.

    song: the song of each training segment [n] on the CPU; weight: how often training drew it, relatively [n];
    songs: how many there are; facts: one row of queries.json a query.
    """

    model: Model
    training: Segments
    song: Tensor
    weight: Tensor
    songs: int
    queries: Segments
    facts: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        if len(self.facts) != len(self.queries) or len(self.song) != len(self.training):
            raise ValueError("every query has its facts and every training segment its song")

    @classmethod
    def load(cls, model_folder: Path, work_folder: Path, device: torch.device | str) -> Setting:
        """Read `model_folder`/pipeline, and training.safetensors, queries.json and queries.safetensors."""
        model = load(model_folder / "pipeline", device)
        training = TrainingSet.load(work_folder / "training.safetensors")
        facts = json.loads((work_folder / "queries.json").read_text())
        latents = load_file(work_folder / "queries.safetensors")["latents"].float()
        return cls(
            model=model,
            training=training_segments(model, training).to(model.device),
            song=training.song,
            weight=training.weight,
            songs=len(training.songs),
            queries=query_segments(model, latents, facts).to(model.device),
            facts=tuple(facts),
        )

    @property
    def device(self) -> torch.device:
        """Where the model and the segments lie."""
        return self.model.device

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and frames of a segment."""
        return (self.training.latents.shape[1], self.training.latents.shape[2])

    def chosen(self, split: str) -> list[int]:
        """Return the places of the queries of `split`: tune, test or all."""
        if split not in SPLITS:
            raise ValueError(f"a split is one of {', '.join(SPLITS)}, not {split!r}")
        return [i for i, fact in enumerate(self.facts) if split in ("all", fact["split"])]


def training_segments(model: StableAudio, training: TrainingSet) -> Segments:
    """Return the segments trained on under their songs' captions, each told where in its song it lies."""
    captions = [training.songs[i].caption for i in training.song.tolist()]
    cond = model.condition(captions, training.starts, training.totals)
    return Segments(training.latents.float(), training.mask.float(), cond)


def query_segments(model: StableAudio, latents: Tensor, facts: list[dict[str, Any]]) -> Segments:
    """Return the queries' segments, one each and without padding, told that they are a whole track of one window."""
    told = [fact["prompt"] if fact["condition"] == "caption" else None for fact in facts]
    length = torch.full((len(told),), model.form.seconds)
    cond: Conditioning = model.condition(told, torch.zeros(len(told)), length)
    return Segments(latents, torch.ones(len(latents), latents.shape[2]), cond)
