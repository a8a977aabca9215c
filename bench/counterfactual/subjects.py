"""The tracks that are tried, and the songs that are forgotten for each: its best, one like that by artist, any one."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from bench.faithfulness.judge.humble import songs
from bench.hardware import RESULTS
from worker.attribution.types import Segments

if TYPE_CHECKING:
    from torch import Tensor

    from worker.diffusion.stable_audio import StableAudio

FOLDER = RESULTS / "faithfulness"
SHIPPED = "ours, as shipped"
KINDS = ("top", "matched", "random")


@dataclass(frozen=True)
class Subject:
    """A generated track and the songs forgotten for it, by place; removed: song → rise of its loss without the song.

    matched_by: "artist", or "length" where the artist has no other song.
    """

    number: int
    name: str
    prompt: str
    seed: int
    songs: dict[str, int]
    matched_by: str
    removed: dict[int, float]


@dataclass(frozen=True)
class Truth:
    """What was committed of the queries, their scores and the models retrained without one song."""

    facts: list[dict[str, Any]]
    latents: Tensor
    scores: Tensor
    artists: list[str]
    removed: dict[int, dict[int, float]]

    @classmethod
    def read(cls) -> Truth:
        """Read bench/results/faithfulness."""
        kept = load_file(FOLDER / "queries.safetensors")
        return cls(
            facts=json.loads((FOLDER / "queries.json").read_text()),
            latents=kept["codes"].float() * kept["scale"].float(),
            scores=load_file(FOLDER / "scores-methods.safetensors")[SHIPPED].float(),
            artists=[song.artist for song in songs(FOLDER / "songs.csv")],
            removed=_removed(),
        )

    def subjects(self, split: str) -> list[Subject]:
        """Return the generated tracks of `split`: those with single removals first, each part in order."""
        chosen = [n for n, f in enumerate(self.facts) if f["kind"] == "generated" and f["split"] == split]
        return [self._subject(n) for n in sorted(chosen, key=lambda n: (n not in self.removed, n))]

    def track(self, model: StableAudio, subject: Subject) -> Segments:
        """Return a track as the retrained models met it: one window under its prompt."""
        latents = self.latents[subject.number][None]
        seconds = torch.full((1,), model.form.seconds)
        cond = model.condition([subject.prompt], torch.zeros(1), seconds)
        return Segments(latents, torch.ones(1, latents.shape[2]), cond)

    def unheard(self, model: StableAudio) -> Segments:
        """Return the tuning windows of recordings that no model ever heard, under their captions."""
        chosen = [n for n, f in enumerate(self.facts) if (f["kind"], f["condition"], f["split"]) == _UNHEARD]
        latents = self.latents[chosen]
        seconds = torch.full((len(chosen),), model.form.seconds)
        cond = model.condition([self.facts[n]["prompt"] for n in chosen], torch.zeros(len(chosen)), seconds)
        return Segments(latents, torch.ones(len(chosen), latents.shape[2]), cond)

    def _subject(self, number: int) -> Subject:
        fact, draw = self.facts[number], random.Random(f"counterfactual {number}")  # noqa: S311
        top = int(self.scores[number].argmax())
        others = [n for n in range(len(self.artists)) if n != top]
        alike = [n for n in others if self.artists[n] == self.artists[top]]
        chosen = {"top": top, "matched": draw.choice(alike or others), "random": draw.choice(others)}
        matched_by = "artist" if alike else "length"  # every excerpt of the starter is of one length
        removed = self.removed.get(number, {})
        return Subject(number, fact["id"], fact["prompt"], fact["seed"], chosen, matched_by, removed)


_UNHEARD = ("held_out", "caption", "tune")


def _removed() -> dict[int, dict[int, float]]:
    """Return query → song → rise of the query's loss when that song alone is left out, over the mean full model."""
    stored, full = (load_file(FOLDER / f"truth-{name}.safetensors") for name in ("removals", "full"))
    groups = {group["mask"]: group for group in json.loads((FOLDER / "removals.json").read_text())}
    mean, found = full["losses"].double().mean(0), defaultdict(lambda: defaultdict(list))  # type: ignore[var-annotated]
    for mask, losses in zip(stored["mask"].tolist(), stored["losses"].double(), strict=True):
        group = groups[mask]
        if len(group["songs"]) == 1:
            query = group["query"]
            found[query][group["songs"][0]].append(float(losses[query] - mean[query]))
    return {query: {song: sum(x) / len(x) for song, x in of.items()} for query, of in found.items()}
