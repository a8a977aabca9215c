"""Gather what the runs left into a small folder to commit: `python -m bench.faithfulness.collect WORK RAW… OUT`.

WORK holds the queries, songs and model that the runs were given; RAW are folders of their answers (a later one
supersedes an earlier one) and removals.json; folders with a doses.json are models of known cause. OUT gets what
`bench.faithfulness.judge.work` lists. Of every method's settings the one best on tuning queries and tuning subsets is
kept, tuning.json tells of all. A truth file's `losses` are means over the noise bands.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from bench.faithfulness import dosed
from bench.faithfulness.candidates import DEFAULT, Candidates, Method, Variant
from bench.faithfulness.costs import Costs
from bench.faithfulness.judge.report import tuning_told
from bench.faithfulness.judge.truth import panel
from bench.faithfulness.judge.tuning import Tuning, tune
from bench.faithfulness.judge.work import Work
from bench.faithfulness.raw import Raw, compact
from bench.faithfulness.retrain import FAMILIES

if TYPE_CHECKING:
    from torch import Tensor

PLAIN = "ours, without the square"
GIVEN = ("songs.csv", "held_out.csv")
TRUTH = ("kept", "mask", "seed", "losses", "final")


def truths(parts: list[Path]) -> dict[str, dict[str, Tensor]]:
    """Return the retrained models of all parts by family, ordered by seed and subset; losses [m, q] over all bands."""
    rows = [load_file(path) for path in parts]
    every = {name: torch.cat([part[name] for part in rows]) for name in (*TRUTH, "family")}
    every["losses"] = every["losses"].double().mean(2).float()
    found = {}
    for number, family in enumerate(FAMILIES):
        own = (every["family"] == number).nonzero()[:, 0]
        order = sorted(own.tolist(), key=lambda n: (int(every["seed"][n]), int(every["mask"][n])))
        if order:
            found[family] = {name: every[name][order].contiguous() for name in TRUTH}
    return found


@dataclass
class Chosen:
    """What tuning left: matrices by name, facts and tunings by method."""

    matrices: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    tunings: dict[str, Tuning] = field(default_factory=dict)

    def add(self, method: Method, setting: str) -> None:
        """Keep one setting of a method; matrices that another method has already are named, not kept twice."""
        variant = method.variants[setting]
        names = []
        for seed, matrix in enumerate(variant.scores):
            own = f"{method.name}@seed{seed}" if len(variant.scores) > 1 else method.name
            names.append(next((n for n, x in self.matrices.items() if torch.equal(x, matrix)), own))
            self.matrices.setdefault(names[-1], matrix)
        self.facts[method.name] = {
            "rival": method.rival, "setting": setting, "scores": names, "power": variant.power, **variant.facts
        }  # fmt: skip


def choose(methods: list[Method], work: Work) -> Chosen:
    """Tune every method on the generated tuning queries and tuning subsets of `work`."""
    if work.tuning is None:
        raise ValueError("without retrained halves nothing can be tuned")
    asked, found = panel(work.queries, "generated", "tune"), Chosen()
    family = work.tuning.queries(asked)
    for method in methods:
        tried = {name: [matrix[asked] for matrix in v.powered] for name, v in method.variants.items()}
        found.tunings[method.name] = tune(family, tried)
        found.add(method, found.tunings[method.name].chosen)
        if method.name == DEFAULT:
            setting = found.tunings[method.name].chosen
            best = method.variants[setting]
            found.add(Method(PLAIN, {setting: Variant(best.scores, 1.0, best.facts)}, rival=False), setting)
    return found


def write(chosen: Chosen, out: Path, made_on: str) -> None:
    """Write matrices, facts and tunings."""
    save_file({name: compact(x) for name, x in chosen.matrices.items()}, out / "scores-methods.safetensors")
    facts = {"default": DEFAULT, "made_on": made_on, "methods": chosen.facts}
    (out / "methods.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "tuning.json").write_text(json.dumps(tuning_told(chosen.tunings), indent=1) + "\n")


def main() -> None:
    """Split the truth, copy what is given, tune, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("raw", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--made-on", default="", help="the machine and software of the runs, to be told in the results")
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    rows = json.loads((options.work / "queries.json").read_text())
    (out / "queries.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    for name in GIVEN:
        shutil.copyfile(options.work / name, out / name)
    folders = [place for place in options.raw if not (place / "doses.json").exists()]
    raw = Raw(tuple(folders), len(rows))
    for path in raw.all("removals.json"):
        shutil.copyfile(path, out / path.name)
    for family, tensors in truths(raw.all("part-*.safetensors")).items():
        save_file(tensors, out / f"truth-{family}.safetensors")
    write(choose(Candidates(raw, Costs(options.work, raw)).all(), Work(out)), out, options.made_on)
    dosed.write([place for place in options.raw if (place / "doses.json").exists()], out)


if __name__ == "__main__":
    main()
