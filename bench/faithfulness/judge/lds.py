"""The linear datamodeling score of many methods, raw and centred, paired by one two-way bootstrap.

A method with several projection seeds gives one matrix a seed, named `method@seed3`; its LDS is the mean over the
seeds, so that it is what one seed is expected to reach, and the spread over the seeds is told beside it.

Bounds are percentiles of the resamples. On 150 made-up truths of 80 queries × 64 subsets no lower bound lay above the
truth; 95 % intervals held it in 88 % for one LDS (where they failed, the upper bound was too low), in 98 to 100 % for a
paired difference, in 94 to 98 % for a ceiling and in 91 to 97 % for a fraction of the ceiling.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.faithfulness.judge.resample import Resamples, correlations, ranked, ranked_centred

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.faithfulness.judge.truth import Family
    from worker.attribution.evaluate import Interval

KINDS = ("raw", "centred")
SEED_MARK = "@seed"


@dataclass(frozen=True)
class Scored:
    """One method on one panel: LDS of every query and resample [q, b], NaN where not asked, and every seed's mean."""

    by_query: Tensor
    by_seed: tuple[float, ...]

    @property
    def asked(self) -> int:
        """How many queries the method was asked."""
        return int(self.by_query[:, 0].isfinite().sum())


@dataclass(frozen=True)
class Board:
    """All methods on one panel; `scored[kind][method]`, kind raw or centred."""

    resamples: Resamples
    scored: Mapping[str, Mapping[str, Scored]]

    def __contains__(self, method: str) -> bool:
        return method in self.scored[KINDS[0]]

    def interval(self, kind: str, method: str) -> Interval:
        """Return a method's mean LDS over the queries that it was asked."""
        return self.resamples.interval(self.resamples.mean(self.scored[kind][method].by_query))

    def difference(self, kind: str, first: str, second: str) -> Interval:
        """Return the mean LDS of `first` minus that of `second`, over the queries and resamples of both."""
        one, other = (self.scored[kind][method].by_query for method in (first, second))
        return self.resamples.interval(self.resamples.mean(one - other))

    def fraction(self, kind: str, method: str, ceiling: Tensor) -> Interval | None:
        """Return the LDS in parts of the `ceiling` [b] of the same resamples; None where one of these is 0."""
        if not bool((ceiling > 0).all()):
            return None
        return self.resamples.interval(self.resamples.mean(self.scored[kind][method].by_query) / ceiling)


def board(family: Family, scores: Mapping[str, Tensor], resamples: Resamples) -> Board:
    """Judge every matrix of scores [q, songs] by the mean losses of `family`, whose queries they are.

    Rows that are not finite were not asked.
    """
    gain = -family.losses.double().mean(0).mT
    true = {"raw": ranked(gain, resamples), "centred": ranked_centred(gain, resamples)}
    kept = family.kept.double().mT
    found: dict[str, dict[str, list[Tensor]]] = {kind: defaultdict(list) for kind in KINDS}
    for name, matrix in scores.items():
        if matrix.shape != (len(gain), len(kept)):
            raise ValueError(f"scores of {name} are {list(matrix.shape)}, not {[len(gain), len(kept)]}")
        agreed = correlations(matrix.double() @ kept, list(true.values()), resamples)
        for kind, each in zip(true, agreed, strict=True):
            each[~matrix.isfinite().all(1)] = torch.nan
            found[kind][name.partition(SEED_MARK)[0]].append(each)
    return Board(resamples, {k: {n: _scored(each, resamples) for n, each in v.items()} for k, v in found.items()})


def _scored(seeds: list[Tensor], resamples: Resamples) -> Scored:
    return Scored(torch.stack(seeds).mean(0), tuple(float(resamples.mean(one)[0]) for one in seeds))


def plain(family: Family, scores: Tensor) -> dict[str, float]:
    """Return the mean LDS of scores [q, songs], raw and centred, without intervals."""
    once = Resamples(torch.ones(1, family.losses.shape[2]), torch.ones(1, len(family.kept)))
    result = board(family, {"it": scores}, once)
    return {kind: float(once.mean(result.scored[kind]["it"].by_query)) for kind in KINDS}
