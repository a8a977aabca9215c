"""Fitting the curvature on more rows than fit into memory at full precision."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from worker.attribution.curvature import ProjectedCurvature

_ROWS_AT_ONCE = 16384


def pieces(first: int, last: int) -> Iterator[slice]:
    """Yield runs of rows from `first` to before `last`, small enough to be held in full precision."""
    return (slice(at, min(at + _ROWS_AT_ONCE, last)) for at in range(first, last, _ROWS_AT_ONCE))


def fit_curvature(rows: Iterable[Tensor], damping: float, device: torch.device | str = "cpu") -> ProjectedCurvature:
    """Fit the curvature on `rows`, given in runs [n, k], computing on `device`; the result is on the CPU."""
    total, count = torch.zeros(()), 0
    for run in rows:
        exact = run.to(device).double()
        total, count = total.to(exact) + exact.mT @ exact, count + len(exact)
    fitted = ProjectedCurvature.of_moment(total / count, count, damping)
    return ProjectedCurvature(fitted.factor.cpu())
