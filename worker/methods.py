"""The two ways to find a track's influences, each from its segments to `Evidence`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from worker.attribution.calibrate import agreement
from worker.attribution.gradients import halves
from worker.attribution.influence import pool, rank
from worker.attribution.measure import Probe, values
from worker.attribution.noise import Grid
from worker.attribution.projection import pull_back
from worker.attribution.types import Progress, Segments
from worker.attribution.unlearn import Step, change, forget_direction, mirrored, step_length, unlearn
from worker.index import Index, Pipeline, row_request, unlearn_probe
from worker.ranking import Evidence, best_segments

CHECKED = 10
CONTRAST = 6
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
    """Score every segment by its kept gradient against the track's, then unlearn the track to check the best.

    First order of finite-step unlearning under the index's measure, projection and curvature (arXiv 2303.14186).
    """
    index = bench.index
    with stages("unlearning") as progress:
        rows = halves(bench.model, track, row_request(index.config, bench.batch), progress).cpu()
    with stages("scoring") as progress:
        query = pool(rows, track.music)
        solved = index.solved(query.mean(0))
        scores = index.scan(solved[None])[0]
        windows = rows.mean(0) * track.music[:, None]
        checked = _check(bench, solved, scores, progress)
        return Evidence(
            scores=scores,
            window=index.scan(index.curvature.solve(windows)).argmax(0),
            halves=index.by_song(index.scan(index.solved(query))),
            background=index.background,
            checks=checked.by_song,
            linearisation=checked.agreement,
            facts={"measure": index.config.measure, "draws": index.config.draws, "checked_segments": checked.segments},
        )


def by_unlearning(bench: Bench, track: Segments, stages: Stages) -> Evidence:
    """Make the model forget the track in one finite step and measure every kept segment again, draws unchanged.

    Mirrored unlearning (arXiv 2406.09408; music: 2506.18312).
    """
    index, config = bench.index, bench.index.config
    probe = unlearn_probe(config, bench.batch)
    with stages("unlearning") as progress:
        direction = forget_direction(bench.model, track, probe, index.fisher(bench.model.device), progress)
        after = unlearn(bench.model.params(config.weights), direction, Step(config.step))
    with stages("scoring") as progress:
        segments = index.segments(bench.model, torch.arange(len(index)))
        if bench.untouched is None:
            bench.untouched = values(bench.model, {}, segments, probe, lambda done: progress(done / 2))
        before = bench.untouched
        changed = values(bench.model, after, segments, probe, lambda done: progress((1 + done) / 2))
        parts = torch.stack([change(before[:, i::2], changed[:, i::2]).cpu() for i in (0, 1)])
    scores = change(before, changed).cpu()
    return Evidence(
        scores=scores,
        window=torch.zeros(len(index), dtype=torch.long),
        halves=index.by_song(parts),
        background=index.forgotten,
        checks={},
        linearisation=None,
        facts={"measure": config.unlearn_measure, "draws": config.unlearn_draws},
    )


@dataclass(frozen=True)
class _Checked:
    by_song: dict[int, float]
    agreement: float
    segments: int


def _check(bench: Bench, solved: Tensor, scores: Tensor, progress: Progress) -> _Checked:
    """Unlearn along the query's own direction and compare with `scores` what that does to chosen segments.

    They are the best segments of the first songs and, for contrast, of some spread over the rest of the ranking.
    """
    index, config = bench.index, bench.index.config
    order = rank(index.by_song(scores)).tolist()
    rest = order[CHECKED:]
    spread = [rest[at] for at in torch.linspace(0, len(rest) - 1, min(CONTRAST, len(rest))).long().tolist()]
    songs = order[:CHECKED] + spread
    chosen = torch.tensor([best_segments(index, scores, song, 1)[0] for song in songs])
    theta = bench.model.params(config.weights)
    request = row_request(config, bench.batch)
    direction = pull_back(request.projection, solved.to(bench.model.device), theta)
    step = Step(config.step)
    probe = Probe(config.measure, Grid(config.grid_seed, config.check_draws), bench.batch)
    segments = index.segments(bench.model, chosen)
    delta = mirrored(bench.model, segments, probe, unlearn(theta, direction, step), progress).cpu()
    measured = delta / step_length(theta, direction, step) * index.row_factors(chosen)
    found = dict(zip(songs[:CHECKED], measured.tolist(), strict=False))
    return _Checked(found, agreement(scores[chosen], measured), len(chosen))
