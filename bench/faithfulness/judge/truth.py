"""What retraining showed, read from its files, cut into panels, and how far it agrees with itself.

A panel is the queries of one kind and condition in one split, against some subsets of the songs. Centring is within
the panel: a model's mean loss over the generated queries is taken off the generated, over the held-out off the
held-out. With k seeds a subset, r is the rank correlation of a query's losses over the subsets, mean over queries and
pairs of seeds; the mean over the seeds then correlates with the expected loss by at most √(k r / (1 + (k − 1) r)), for
two seeds √(2r / (1 + r)). True scores reach the raw ceiling; they reach the centred one only less their own mean over
the queries, because the songs' shared part is still in them when it has left the losses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.faithfulness.judge.resample import Resamples, correlation, ranked, ranked_centred
from worker.attribution.evaluate import Interval, Truth, spearman
from worker.attribution.reliability import effective_rank

if TYPE_CHECKING:
    from pathlib import Path

PANELS = {
    "generated": ("generated", "caption"),
    "held_out": ("held_out", "caption"),
    "held_out_null": ("held_out", "null"),
}
TUNING_MASKS = 64


@dataclass(frozen=True)
class Query:
    """One query: what it is, under which condition, and for what; `song` is a held-out recording's key."""

    id: str
    kind: str
    condition: str
    split: str
    prompt: str | None = None
    seed: int | None = None
    song: str | None = None


def queries(path: Path) -> tuple[Query, ...]:
    """Read queries.json."""
    names = Query.__dataclass_fields__
    return tuple(Query(**{k: v for k, v in row.items() if k in names}) for row in json.loads(path.read_text()))


def panel(rows: tuple[Query, ...], name: str, split: str | None = None) -> Tensor:
    """Return the numbers of the queries of panel `name` (a key of PANELS) in `split`, or in both: [n] long."""
    fits = [(q.kind, q.condition) == PANELS[name] and split in (None, q.split) for q in rows]
    return torch.tensor(fits).nonzero()[:, 0]


def clusters(rows: tuple[Query, ...], asked: Tensor) -> Tensor:
    """Return which of the queries `asked` share a recording and are resampled as one: [n] long, from 0.

    Windows of one recording are not independent; every generated track stands for itself.
    """
    names = [rows[n].song or rows[n].id for n in asked.tolist()]
    order = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([order[name] for name in names])


@dataclass(frozen=True)
class Family:
    """One family of retrained models, subset by subset.

    kept [m, songs] bool; number [m], what the subset is called; losses [k, m, q] of k seeds.
    """

    kept: Tensor
    number: Tensor
    losses: Tensor

    @staticmethod
    def load(path: Path) -> Family:
        """Read a truth file; subsets that lack a seed that others have are left out, noise bands are averaged."""
        stored = load_file(path)
        return grouped(stored["kept"] > 0, stored["mask"], stored["seed"], over_bands(stored["losses"]))

    def subsets(self, chosen: Tensor) -> Family:
        """Return the chosen subsets (numbers or bool)."""
        return Family(self.kept[chosen], self.number[chosen], self.losses[:, chosen])

    def queries(self, asked: Tensor) -> Family:
        """Return the chosen queries (numbers or bool)."""
        return Family(self.kept, self.number, self.losses[:, :, asked])

    @property
    def tuning(self) -> Tensor:
        """Which subsets of the random halves are for tuning: [m] bool."""
        return self.number < TUNING_MASKS

    def unlike(self, other: Family) -> Tensor:
        """Which subsets are none of those of `other`: [m] bool."""
        seen = {tuple(row) for row in other.kept.tolist()}
        return torch.tensor([tuple(row) not in seen for row in self.kept.tolist()], dtype=torch.bool)

    @property
    def truth(self) -> Truth:
        """The mean over the seeds, as `worker.attribution.evaluate` takes it."""
        return Truth(self.kept, self.losses.mean(0))


def over_bands(losses: Tensor) -> Tensor:
    """Return losses [rows, q], or [rows, q, bands] averaged over the bands of noise, as [rows, q] float64."""
    return losses.double().mean(2) if losses.ndim == 3 else losses.double()


def grouped(kept: Tensor, mask: Tensor, seed: Tensor, losses: Tensor) -> Family:
    """Put models side by side that differ in their seed alone: losses [rows, q] → [k, m, q]."""
    seeds = sorted(set(seed.tolist()))
    place = {(m, s): row for row, (m, s) in enumerate(zip(mask.tolist(), seed.tolist(), strict=True))}
    whole = [m for m in sorted(set(mask.tolist())) if all((m, s) in place for s in seeds)]
    if not whole:
        raise ValueError("no subset has been trained under every seed")
    rows = torch.tensor([[place[m, s] for m in whole] for s in seeds])
    if not bool((kept[rows] == kept[rows[0]]).all()):
        raise ValueError("a subset's songs differ from seed to seed")
    return Family(kept[rows[0]], torch.tensor(whole), losses[rows])


def reliability(family: Family, resamples: Resamples, centred: bool) -> Tensor:
    """Return the mean over queries and pairs of seeds of Spearman's correlation over the subsets: [b]."""
    order = ranked_centred if centred else ranked
    seeds = [order(one, resamples) for one in family.losses.double().mT]
    pairs = [resamples.mean(correlation(a, b, resamples)) for a, b in combinations(seeds, 2)]
    if not pairs:
        raise ValueError("one seed says nothing about the agreement of seeds")
    return torch.stack(pairs).mean(0)


def ceiling(agreement: Tensor, seeds: int) -> Tensor:
    """Return √(k r / (1 + (k − 1) r)) for agreement r between k seeds; 0 where r is not positive."""
    r = agreement.clamp(min=0)
    return (seeds * r / (1 + (seeds - 1) * r)).sqrt()


@dataclass(frozen=True)
class Ceiling:
    """The highest LDS to expect of true scores: reliability r and ceiling, and the ceiling of every resample [b]."""

    reliability: Interval
    ceiling: Interval
    resampled: Tensor


def ceilings(family: Family, resamples: Resamples) -> dict[str, Ceiling]:
    """Return the ceilings of the raw and of the centred LDS; none where there is one seed."""
    found = {}
    for name in ("raw", "centred") if len(family.losses) > 1 else ():
        agreement = reliability(family, resamples, name == "centred")
        top = ceiling(agreement, len(family.losses))
        found[name] = Ceiling(resamples.interval(agreement), resamples.interval(top), top)
    return found


def dimension(family: Family) -> float:
    """Return the effective number of independent queries: (Σλ)² / Σλ² of the losses' correlations over the subsets."""
    losses = family.losses.mean(0)
    return effective_rank((losses - losses.mean(0)) / losses.std(0))


def shared_by_others(family: Family) -> float:
    """Return the mean over queries of Spearman(a query's loss, the mean loss of the others) over the subsets."""
    losses = family.losses.mean(0)
    others = (losses.sum(1, keepdim=True) - losses) / (losses.shape[1] - 1)
    return float(spearman(losses.mT, others.mT).mean())
