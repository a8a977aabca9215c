"""What lies in a working folder, read once.

queries.json, songs.csv, held_out.csv    the queries and the songs
truth-FAMILY.safetensors                 kept [rows, songs], mask, seed [rows], losses [rows, q] or [rows, q, bands]
scores-*.safetensors                     name → [q, songs]; rows of queries that were not asked are NaN
methods.json                             {"default": method, "made_on": machine, "methods": {method: facts}}
removals.json                            the groups left out, see `removals.groups`
copies-*.safetensors                     dose [songs], own [q] (−1: none), scores.METHOD [q, songs]; calls.METHOD
                                         alike, or threshold.METHOD [2] set on the other models (`.dosed`)
retrieval.safetensors                    own [q], METHOD → [q, songs]
effects.safetensors                      predicted, low, high, retrained, query: [n]
tuning.json, gate.json, self_retrieval.json      results of other commands, taken over as they are

A method's facts go into the table (`rival`, `query_gpu_s`, `bytes_per_segment`, …), but for two: `scores` names its
matrix, or one a projection seed, of which the signed `power` is taken; `variants` names those of every setting,
{"damping=0.1": name or names}, of which tuning chooses. With neither, the matrices are those of the method's own name,
or METHOD@seed0, METHOD@seed1, ….
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from bench.faithfulness.judge.humble import LEARNT, Catalogue, agnostic, rivals, songs
from bench.faithfulness.judge.lds import SEED_MARK
from bench.faithfulness.judge.truth import Family, Query, panel, queries
from bench.faithfulness.judge.tuning import Tuning, tune
from worker.attribution.influence import signed_power

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True)
class Work:
    """A working folder."""

    folder: Path

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.folder / name).exists()

    def json(self, name: str) -> Any:
        """Read a JSON file; an empty object where there is none."""
        return json.loads((self.folder / name).read_text()) if self.has(name) else {}

    @cached_property
    def queries(self) -> tuple[Query, ...]:
        """All queries, in the order of every matrix."""
        return queries(self.folder / "queries.json")

    @cached_property
    def families(self) -> dict[str, Family]:
        """The families of retrained models that are there."""
        names = [n for n in ("halves", "artists", "short") if self.has(f"truth-{n}.safetensors")]
        return {name: Family.load(self.folder / f"truth-{name}.safetensors") for name in names}

    @cached_property
    def tuning(self) -> Family | None:
        """The tuning subsets of the random halves, all queries."""
        return self.families["halves"].subsets(self.families["halves"].tuning) if "halves" in self.families else None

    def test(self, name: str) -> Family:
        """Return the subsets of family `name` that nothing was tuned on, all queries."""
        family = self.families[name]
        if name == "halves":
            return family.subsets(~family.tuning)
        return family if self.tuning is None else family.subsets(family.unlike(self.tuning))

    @cached_property
    def facts(self) -> dict[str, dict[str, Any]]:
        """What is told of every method; without methods.json the matrices' names are the methods, and nothing is."""
        if not self.has("methods.json"):
            return {name.partition(SEED_MARK)[0]: {} for name in self.matrices}
        return dict(self.json("methods.json")["methods"])

    @cached_property
    def default(self) -> str | None:
        """The name of the default method."""
        return self.json("methods.json").get("default")

    @cached_property
    def made_on(self) -> str | None:
        """What the truth and the raw scores were computed on."""
        return self.json("methods.json").get("made_on")

    @cached_property
    def retrained(self) -> dict[str, dict[str, Any]]:
        """How many models of every family were trained, and under which seeds."""
        found = {}
        for path in sorted(self.folder.glob("truth-*.safetensors")):
            seeds = load_file(path)["seed"].tolist()
            found[path.stem.removeprefix("truth-")] = {"models": len(seeds), "seeds": sorted(set(seeds))}
        return found

    @cached_property
    def matrices(self) -> dict[str, Tensor]:
        """Every score matrix in the folder, by its name there."""
        found: dict[str, Tensor] = {}
        for path in sorted(self.folder.glob("scores-*.safetensors")):
            matrices = load_file(path)
            if twice := set(found) & set(matrices):
                raise ValueError(f"{path.name} gives {sorted(twice)} a second time")
            found.update(matrices)
        return found

    @cached_property
    def variants(self) -> dict[str, dict[str, list[Tensor]]]:
        """The matrices of every setting of the methods that are tuned here: method → settings → one a seed."""
        return {
            method: {
                setting: [self.matrices[n] for n in _listed(names)] for setting, names in facts["variants"].items()
            }
            for method, facts in self.facts.items()
            if "variants" in facts
        }

    @cached_property
    def tunings(self) -> dict[str, Tuning]:
        """What tuning chose, on generated tuning queries and tuning subsets."""
        if self.tuning is None or not self.variants:
            return {}
        asked = panel(self.queries, "generated", "tune")
        family = self.tuning.queries(asked)
        return {
            method: tune(family, {setting: [m[asked] for m in seeds] for setting, seeds in of.items()})
            for method, of in self.variants.items()
        }

    @cached_property
    def methods(self) -> dict[str, list[Tensor]]:
        """The matrices of every method but the humble ones, one a seed."""
        return {name: self._of(name, facts) for name, facts in self.facts.items() if name not in self.humble}

    def _of(self, name: str, facts: dict[str, Any]) -> list[Tensor]:
        if "scores" in facts:
            power = facts.get("power", 1.0)
            return [signed_power(self.matrices[n].double(), power) for n in _listed(facts["scores"])]
        if name in self.tunings:
            return self.variants[name][self.tunings[name].chosen]
        own = [m for n, m in self.matrices.items() if n.partition(SEED_MARK)[0] == name]
        if not own:
            raise KeyError(f"no score matrix is called {name}")
        return own

    @cached_property
    def humble(self) -> dict[str, Tensor]:
        """The humble rivals that learn nothing, computed here."""
        if not (self.has("songs.csv") and self.has("held_out.csv")):
            return {}
        known = Catalogue(songs(self.folder / "songs.csv"), songs(self.folder / "held_out.csv"))
        return rivals(self.queries, known)

    @cached_property
    def free(self) -> frozenset[str]:
        """The methods that need no gradient of a query and nothing of a segment."""
        return frozenset(name.partition(SEED_MARK)[0] for name in self.humble) | {LEARNT}

    @cached_property
    def scores(self) -> dict[str, Tensor]:
        """All score matrices under the methods' names, METHOD@seedN where there are several."""
        found = {}
        for name, seeds in self.methods.items():
            found |= {f"{name}{SEED_MARK}{n}" if len(seeds) > 1 else name: matrix for n, matrix in enumerate(seeds)}
        own = {n: matrix for n, matrix in found.items() if n.partition(SEED_MARK)[0] == self.default}
        return found | self.humble | agnostic(self.queries, self.tuning, own)


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names
