"""What a model is asked for rows and for finite steps, by the choices of an index: the same for songs and queries."""

from collections.abc import Sequence

from torch import Tensor

from worker.attribution.gradients import Request, gradients_each
from worker.attribution.measure import Probe
from worker.attribution.noise import Grid
from worker.attribution.projection import SJLT
from worker.attribution.types import Model, Progress, Segments, silent
from worker.manifest import IndexConfig


def row_requests(config: IndexConfig, batch: int) -> tuple[Request, ...]:
    """Return how each measure's part of a row is made: the same draws, weights and projection for songs and queries."""
    grid, projection = Grid(config.grid_seed, config.draws), SJLT(config.projection_seed, config.dim, config.nonzeros)
    return tuple(Request(Probe(measure, grid, batch), config.weights, projection) for measure in config.measures)


def gradient_rows(
    model: Model, segments: Segments, requests: Sequence[Request], groups: int = 1, progress: Progress = silent
) -> Tensor:
    """Return the rows of `segments` from `groups` disjoint sets of the draws, on the CPU: [groups, s, m, k]."""
    return gradients_each(model, segments, requests, groups, progress).rows.cpu()


def unlearn_probe(config: IndexConfig, batch: int) -> Probe:
    """Return what finite-step unlearning measures, before and after."""
    return Probe(config.unlearn_measure, Grid(config.grid_seed, config.unlearn_draws), batch)
