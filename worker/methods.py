"""The two ways to find a track's influences, each from its segments to `Evidence`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from worker.attribution.calibrate import Fit, fit_of
from worker.attribution.influence import pool
from worker.attribution.measure import Measure, Probe, profile, values
from worker.attribution.noise import Grid
from worker.attribution.types import Progress, Segments
from worker.attribution.unlearn import Step, change, forget_direction, unlearn
from worker.checking import Query, checked
from worker.index import Index, Pipeline, gradient_rows, row_requests, unlearn_probe
from worker.ranking import Evidence

GROUPS = 4
Report = Callable[[str, float], None]


@dataclass
class Stages:
    """Tells `report` how far each stage is and keeps the seconds that each took."""

    report: Report
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Progress]:
        """Time the stage `name`; what is yielded takes its progress in (0, 1]."""
        self.report(name, 0.0)
        began = perf_counter()
        yield lambda done: self.report(name, done)
        self.seconds[name] = perf_counter() - began


@dataclass
class Bench:
    """What stays between queries: the model, its index, how many samples share a pass.

    untouched: the measure of every kept segment before any unlearning [n, draws], measured when first asked for.
    """

    model: Pipeline
    index: Index
    batch: int
    untouched: Tensor | None = None


def by_index(bench: Bench, track: Segments, stages: Stages) -> Evidence:
    """Score every segment by its kept gradients against the track's, then check the best by finite steps.

    First order of finite-step unlearning under the index's measures, projection and curvature (arXiv 2303.14186).
    """
    index, config = bench.index, bench.index.config
    with stages("unlearning") as progress:
        requests = row_requests(config, bench.batch)
        rows = gradient_rows(bench.model, track, requests, GROUPS, lambda done: progress(0.9 * done))
        fit = fit_to(bench, track)
    with stages("scoring") as progress:
        flat = rows.flatten(-2)
        pooled = index.parts(pool(flat, track.music))
        query = Query(track, index.parts(pool(flat.mean(0), track.music)))
        scores = index.scan(index.solved(query.row)[None])[0]
        found = checked(bench.model, index, query, scores, bench.batch, progress)
        return Evidence(
            scores=scores,
            songs=index.song_scores(scores),
            window=_window(index, rows.mean(0), query.row, track),
            groups=index.song_scores(index.scan(index.solved(pooled))),
            background=index.background,
            checks=found.by_song,
            linearisation=found.agreement,
            fit=fit,
            facts={"measure": list(config.measures), "draws": config.draws, "checked_segments": found.segments},
        )


def by_unlearning(bench: Bench, track: Segments, stages: Stages) -> Evidence:
    """Make the model forget the track in one finite step and measure every kept segment again, draws unchanged.

    Mirrored unlearning (arXiv 2406.09408; music: 2506.18312).
    """
    index, config = bench.index, bench.index.config
    probe = unlearn_probe(config, bench.batch)
    with stages("unlearning") as progress:
        direction = forget_direction(bench.model, track, probe, index.fisher(bench.model.device), progress)
        after = unlearn(bench.model.params(config.weights), direction, Step(config.unlearn_step))
        fit = fit_to(bench, track)
    with stages("scoring") as progress:
        segments = index.segments(bench.model, torch.arange(len(index)))
        if bench.untouched is None:
            bench.untouched = values(bench.model, {}, segments, probe, lambda done: progress(done / 2))
        before = bench.untouched
        changed = values(bench.model, after, segments, probe, lambda done: progress((1 + done) / 2))
        parts = torch.stack([change(before[:, i::GROUPS], changed[:, i::GROUPS]).cpu() for i in range(GROUPS)])
    scores = change(before, changed).cpu()
    return Evidence(
        scores=scores,
        songs=index.by_song(scores),
        window=torch.zeros(len(index), dtype=torch.long),
        groups=index.by_song(parts),
        background=index.forgotten,
        checks={},
        linearisation=None,
        fit=fit,
        facts={"measure": config.unlearn_measure, "draws": config.unlearn_draws},
    )


def fit_to(bench: Bench, track: Segments) -> Fit:
    """Measure how well the model predicts the track, and what predicting nothing would cost."""
    config = bench.index.config
    probe = Probe(Measure.LOSS, Grid(config.grid_seed, config.fit_draws), bench.batch)
    return fit_of(profile(bench.model, track, probe), probe.grid.levels(), track.music)


def _window(index: Index, rows: Tensor, query: Tensor, track: Segments) -> Tensor:
    """Return the track's window that every kept segment fits best, [n], from the windows' rows [s, m, k]."""
    parts = rows * index.factors(query)[:, None] * track.music[:, None, None]
    return index.scan(index.curvature.solve(parts.flatten(-2))).argmax(0)
