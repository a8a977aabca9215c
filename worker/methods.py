"""The two ways to find a track's influences, each from its segments to `Evidence`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from worker.attribution.calibrate import Fit, fit_of
from worker.attribution.gradients import Rows
from worker.attribution.influence import pool
from worker.attribution.measure import Measure, Probe, profile, values
from worker.attribution.noise import Grid
from worker.attribution.replay import Kept, rows_of
from worker.attribution.types import Model, Progress, Segments
from worker.attribution.unlearn import Step, change, forget_direction, unlearn
from worker.checking import NOT_CHECKED, Checker, Prediction, Query, checked
from worker.finding import Finder, Found
from worker.index import Index, Pipeline, row_requests, unlearn_probe
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
    """What stays between queries: the model, its index, what scans it, how many samples share a pass.

    fast: the same model for rows alone, where it may compute in less precision; check: whether the first songs by the
    index are checked; recorded: CUDA graphs that make rows, None where none shall be; untouched: the measure of every
    kept segment before any unlearning [n, draws], measured when first asked for.
    """

    model: Pipeline
    index: Index
    find: Finder
    batch: int
    fast: Model | None = None
    check: bool = True
    recorded: Kept | None = None
    untouched: Tensor | None = None

    def rows(self, track: Segments, progress: Progress) -> Rows:
        """Return the rows of the track's windows, in `GROUPS` groups of draws."""
        requests, model = row_requests(self.index.config, self.batch), self.fast or self.model
        return rows_of(model, track, requests, GROUPS, self.recorded, progress)


def by_index(bench: Bench, track: Segments, stages: Stages) -> Evidence:
    """Score every segment by its kept gradients against the track's, then check the best by finite steps.

    First order of finite-step unlearning under the index's measures, projection and curvature (arXiv 2303.14186).
    """
    index, config = bench.index, bench.index.config
    with stages("unlearning") as progress:
        made = bench.rows(track, progress)
        rows, fit = made.rows.cpu(), _fit(bench, track, made)
    with stages("scoring") as progress:
        query, found = _scanned(bench, rows, track)
        songs, check = index.scored(found.sums[0]), NOT_CHECKED
        if bench.check:
            check = checked(Checker(bench.model, index, bench.batch), query, Prediction(found.scores, songs), progress)
        return Evidence(
            scores=found.scores,
            songs=songs,
            window=found.window,
            groups=index.scored(found.sums[1:]),
            background=index.background,
            checks=check.by_song,
            linearisation=check.agreement,
            fit=fit,
            facts={"measure": list(config.measures), "draws": config.draws, "checked_segments": check.segments},
        )


def _scanned(bench: Bench, rows: Tensor, track: Segments) -> tuple[Query, Found]:
    """Scan the index once for the track, its groups of draws and its windows, from rows [groups, s, m, k].

    Sums are those of the track and of each group, in this order.
    """
    index = bench.index
    flat = rows.flatten(-2)
    pooled = index.parts(pool(torch.cat([flat.mean(0, keepdim=True), flat]), track.music))
    windows = rows.mean(0) * index.factors(pooled[0])[:, None] * track.music[:, None, None]
    solved = index.solve(torch.cat([index.joint(pooled), windows.flatten(-2)]))
    return Query(track, pooled[0]), bench.find(solved, 1 + len(rows))


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
        parts = torch.stack([change(before[:, i::GROUPS], changed[:, i::GROUPS]) for i in range(GROUPS)])
    scores = change(before, changed).to(index.device)
    return Evidence(
        scores=scores,
        songs=index.by_song(scores),
        window=torch.zeros(len(index), dtype=torch.long, device=index.device),
        groups=index.by_song(parts),
        background=index.forgotten,
        checks={},
        linearisation=None,
        fit=fit,
        facts={"measure": config.unlearn_measure, "draws": config.unlearn_draws},
    )


def _fit(bench: Bench, track: Segments, rows: Rows) -> Fit:
    """Return `fit_to`, from the passes that made the rows where these hold its draws."""
    config = bench.index.config
    if config.fit_draws > config.draws:
        return fit_to(bench, track)
    return fit_of(rows.profile[:, :, : config.fit_draws], track.music)


def fit_to(bench: Bench, track: Segments) -> Fit:
    """Measure how well the model predicts the track, and what predicting nothing would cost."""
    config = bench.index.config
    probe = Probe(Measure.LOSS, Grid(config.grid_seed, config.fit_draws), bench.batch)
    return fit_of(profile(bench.model, track, probe), track.music)
