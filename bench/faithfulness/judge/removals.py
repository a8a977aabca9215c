"""Leave-K-out: how much a query's loss rises when a method's top songs are taken out of training.

    rise(q) = 100 · mean over seeds of [L(q; without the group) − L(q; all songs)] / mean over seeds of L(q; all songs)

A model without a group is compared with the full model of the same seed, which began from the same weights. The own
rise is what is left after taking off the mean rise of the other queries of the same kind and condition, so that
training on less does not count. Where groups were left out under unequally many seeds, only those pairs of query and
seed count that every method has. Intervals resample queries and seeds together; few seeds make them somewhat narrow.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.faithfulness.judge.truth import over_bands
from worker.attribution.evaluate import Bootstrap, Interval, draws, interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Group:
    """Songs that were left out under the number `mask`, for `query` (None: for every query), chosen by `method`."""

    mask: int
    query: int | None
    method: str
    songs: tuple[int, ...]


def groups(path: Path) -> list[Group]:
    """Read removals.json; an entry without a mask has its place in the list for one."""
    rows = json.loads(path.read_text())
    return [Group(r.get("mask", n), r["query"], r["method"], tuple(r["songs"])) for n, r in enumerate(rows)]


@dataclass(frozen=True)
class Removals:
    """Losses without each group, `without[mask]` [k, q], and of the full models of the same k seeds, `full` [k, q].

    A group's rows are NaN under the seeds that it was not left out under.
    """

    without: dict[int, Tensor]
    full: Tensor

    @staticmethod
    def load(*paths: Path) -> Removals:
        """Read truth files, one of which holds the full models.

        Raises ValueError without a full model of the groups' seeds.
        """
        full: dict[int, Tensor] = {}
        without: dict[int, dict[int, Tensor]] = defaultdict(dict)
        for path in paths:
            stored = load_file(path)
            losses = over_bands(stored["losses"])
            whole = (stored["kept"] > 0).all(1)
            for n, (mask, seed) in enumerate(zip(stored["mask"].tolist(), stored["seed"].tolist(), strict=True)):
                (full if whole[n] else without[mask])[seed] = losses[n]
        return paired(without, full)

    def rises(self, mask: int) -> Tensor:
        """Return the rise of every query's loss without group `mask`, in per cent of the full loss: [k, q]."""
        return 100 * (self.without[mask] - self.full) / self.full.mean(0)


def paired(without: dict[int, dict[int, Tensor]], full: dict[int, Tensor]) -> Removals:
    """Put losses [q] by mask and seed beside those of the full models of the same seeds."""
    seeds = sorted({seed for of in without.values() for seed in of})
    if not seeds or not set(seeds) <= set(full):
        raise ValueError(f"groups were left out under seeds {seeds}, full models have {sorted(full)}")
    missing = torch.full_like(full[seeds[0]], torch.nan)
    rows = {mask: torch.stack([of.get(seed, missing) for seed in seeds]) for mask, of in without.items()}
    return Removals(rows, torch.stack([full[seed] for seed in seeds]))


def effects(removals: Removals, chosen: Sequence[Group], alike: Tensor) -> dict[str, Tensor]:
    """Return each method's rise [2, k, n] of the n queries that every method has a group for: whole and own.

    alike [q]: queries of one number are of one kind and condition. Several groups of a method for a query are averaged.
    NaN where a query has not a group of every method under a seed.
    """
    asked = sorted({g.query for g in chosen if g.query is not None})
    found: dict[str, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    for group in chosen:
        if group.mask in removals.without:
            rises = removals.rises(group.mask)
            for query in asked if group.query is None else [group.query]:
                found[group.method][query].append(_whole_and_own(rises, query, alike))
    common = [q for q in asked if all(q in of for of in found.values())]
    made = {m: torch.stack([torch.stack(of[q]).mean(0) for q in common], -1) for m, of in found.items() if common}
    known = torch.stack([rise.isfinite() for rise in made.values()]).all(0) if made else torch.empty(0)
    return {method: torch.where(known, rise, torch.nan) for method, rise in made.items()}


def _whole_and_own(rises: Tensor, query: int, alike: Tensor) -> Tensor:
    others = alike == alike[query]
    others[query] = False
    mine = rises[:, query]
    return torch.stack([mine, mine - rises[:, others].mean(1) if bool(others.any()) else mine])


def mean_rise(rise: Tensor, bootstrap: Bootstrap | None = None) -> Interval:
    """Return the mean over queries of their mean over seeds of `rise` [k, n], NaN where unknown.

    Seeds and queries are resampled together; a query without any of a resample's seeds is left out of it.
    """
    how = bootstrap or Bootstrap()
    seeds, queries = rise.shape
    means = torch.stack([rise[s][:, q].nanmean(0).nanmean() for q, s in draws(how, queries, seeds)])
    return interval(float(rise.nanmean(0).nanmean()), means[means.isfinite()], how.level)


def by_size(chosen: Sequence[Group]) -> dict[int, list[Group]]:
    """Return the groups by the number of songs left out."""
    found: dict[int, list[Group]] = defaultdict(list)
    for group in chosen:
        found[len(group.songs)].append(group)
    return dict(sorted(found.items()))
