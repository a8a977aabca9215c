"""Models of known cause, scored as the table scores: every method that a dosed model's own inner products allow.

A song is called where its score, standardised within the query by the songs trained on once, lies above a threshold
of planted songs' scores for tracks made under their own captions, which are alike without any cause: above 95 % of
them, or above the highest. The first `TUNING` models set the thresholds, the others are judged. Scores are of the first
projection seed.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from bench.faithfulness.candidates import Candidates
from bench.faithfulness.costs import Costs
from bench.faithfulness.judge.known_cause import of_own, standardised
from bench.faithfulness.raw import Raw, compact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from torch import Tensor

TUNING = 2
LEVELS = (0.95, 1.0)


@dataclass(frozen=True)
class Dosed:
    """One dosed model: dose [songs], own [q] (−1: none), scores by method [q, songs]."""

    dose: Tensor
    own: Tensor
    scores: dict[str, Tensor]

    @staticmethod
    def load(folder: Path, facts: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> Dosed:
        """Read `folder`; `facts` tell the methods and their settings, `keys` the songs in order."""
        rows = json.loads((folder / "queries.json").read_text())
        raw = Raw((folder,), len(rows))
        own = torch.tensor([keys.index(row["song"]) if row["song"] in keys else -1 for row in rows])
        variants = {m.name: m.variants for m in Candidates(raw, Costs(folder, raw)).all()}
        scores = {}
        for name, of in facts.items():
            if of["setting"] in variants.get(name, {}):
                scores[name] = variants[name][of["setting"]].powered[0].float()
        return Dosed(torch.tensor(json.loads((folder / "doses.json").read_text())), own, scores)

    def units(self, method: str) -> Tensor:
        """Return the standardised scores [q, songs]."""
        scores = self.scores[method].double()
        return standardised(scores, self.dose.expand_as(scores))

    def planted_units(self, method: str) -> Tensor:
        """Return the standardised scores of planted songs for the tracks made under their own captions: [n]."""
        asked = self.own >= 0
        mine = self.own[asked]
        return of_own(self.units(method)[asked], mine)[:, 0][self.dose[mine] == 0]


def write(folders: Sequence[Path], out: Path) -> None:
    """Write OUT/copies-N.safetensors for every folder; methods.json and songs.csv lie in OUT already.

    Where there are no more than the models for tuning, each is judged by thresholds of the other.
    """
    methods = json.loads((out / "methods.json").read_text())
    facts = {name: of for name, of in methods["methods"].items() if of["rival"] or name == methods["default"]}
    with (out / "songs.csv").open(newline="", encoding="utf-8") as file:
        keys = [row["key"] for row in csv.DictReader(file)]
    models = [Dosed.load(folder, facts, keys) for folder in folders]
    for number, model in enumerate(models):
        few = len(models) <= TUNING
        others = [other for other in models[:TUNING] if few or number >= TUNING if other is not model]
        save_file(told(model, others), out / f"copies-{number}.safetensors")


def told(model: Dosed, others: Sequence[Dosed]) -> dict[str, Tensor]:
    """Return doses, own songs, scores and, where there are `others` to set them by, every method's two thresholds."""
    found = {"dose": model.dose, "own": model.own}
    for method, scores in model.scores.items():
        found[f"scores.{method}"] = compact(scores)
        if others:
            planted = torch.cat([other.planted_units(method) for other in others])
            found[f"threshold.{method}"] = planted.quantile(torch.tensor(LEVELS, dtype=planted.dtype)).float()
    return {name: tensor.contiguous() for name, tensor in found.items()}
