"""Choosing settings on tuning queries and tuning subsets alone, as many variants for every method, all of them logged.

The objective is one number: the mean of the raw and the centred LDS on the generated tuning queries. A variant's name
tells its settings, `damping=0.1,measure=loss`, so that an optimum at the edge of what was tried is seen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import mean
from typing import TYPE_CHECKING

import torch

from bench.faithfulness.judge.lds import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bench.faithfulness.judge.truth import Family

OBJECTIVE = "mean of raw and centred LDS, generated tuning queries, tuning subsets"


@dataclass(frozen=True)
class Tried:
    """One variant and what it reached."""

    name: str
    raw: float
    centred: float

    @property
    def objective(self) -> float:
        """The one number that is made as high as can be."""
        return (self.raw + self.centred) / 2


@dataclass(frozen=True)
class Tuning:
    """The chosen variant, all from best to worst, the settings whose best value lies at an edge, how many queries."""

    chosen: str
    tried: tuple[Tried, ...]
    edges: tuple[str, ...]
    queries: int

    @property
    def log(self) -> dict[str, object]:
        """The same, JSON-ready."""
        rows = [{**asdict(t), "objective": t.objective} for t in self.tried]
        return {
            "chosen": self.chosen,
            "variants": len(rows),
            "queries": self.queries,
            "at_edge": list(self.edges),
            "tried": rows,
        }


def tune(family: Family, variants: Mapping[str, Sequence[Tensor]]) -> Tuning:
    """Choose among the variants for the queries and subsets of `family`, which are for tuning.

    A variant is one matrix of scores [q, songs], or one a projection seed, whose mean LDS counts. All are judged on
    the queries that all have finite scores for.
    """
    asked = torch.stack([m.isfinite().all(1) for seeds in variants.values() for m in seeds]).all(0)
    if int(asked.sum()) < 2:
        raise ValueError(f"the variants {sorted(variants)} share fewer than two queries")
    part = family.queries(asked)
    tried = [_tried(part, name, [m[asked] for m in seeds]) for name, seeds in variants.items()]
    tried.sort(key=lambda t: (-t.objective, t.name))
    return Tuning(tried[0].name, tuple(tried), edges(tried[0].name, list(variants)), int(asked.sum()))


def _tried(family: Family, name: str, seeds: Sequence[Tensor]) -> Tried:
    reached = [plain(family, scores) for scores in seeds]
    return Tried(name, mean(r["raw"] for r in reached), mean(r["centred"] for r in reached))


def settings(name: str) -> dict[str, float | str]:
    """Return the settings in a variant's name; words that are numbers become numbers."""
    pairs = (part.partition("=") for part in name.split(",") if "=" in part)
    return {key.strip(): _number(value.strip()) for key, _, value in pairs}


def edges(chosen: str, names: list[str]) -> tuple[str, ...]:
    """Return the numeric settings of `chosen` that are the least or the greatest of several values tried."""
    values: dict[str, set[float]] = defaultdict(set)
    for name in names:
        for key, value in settings(name).items():
            if isinstance(value, float):
                values[key].add(value)
    best = settings(chosen)
    return tuple(key for key, of in values.items() if len(of) > 1 and best.get(key) in (min(of), max(of)))


def unequal(logs: Mapping[str, Tuning]) -> dict[str, int]:
    """Return the number of variants of every method where these differ; nothing where all had the same chance."""
    counts = {name: len(log.tried) for name, log in logs.items()}
    return counts if len(set(counts.values())) > 1 else {}


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word
