"""The finite-step check of a ranking: what the index predicts is done to the model, in both directions.

    mirrored   forget the track along C⁻¹ K(q), measure the song's segment        Δ_m(x_i) / η_m · f_{i,m}
    forward    forget the song's segment along C⁻¹ K(g_i), measure the track      Δ_m(ẑ) / η_m · f_{q,m}

Both tend to the segment's score τ as the steps vanish: sums over the measures m, f what the row scaling multiplied a
row's part by. Step and score share measures, curvature and projection, so the check says whether the model follows its
first order, and nothing about what retraining would do.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.attribution.gradients import music_share
from worker.attribution.influence import rank
from worker.attribution.measure import Probe, values, values_each
from worker.attribution.noise import Grid
from worker.attribution.projection import pull_back
from worker.attribution.reliability import agreement
from worker.attribution.types import Params, Progress, Segments
from worker.attribution.unlearn import Step, change, step_length, stepped
from worker.index import Index, Pipeline, row_requests
from worker.matches import Numbers, best_segments
from worker.ranking import Check

CHECKED = 10
FORWARD = 3
CONTRAST = 6


@dataclass(frozen=True)
class Query:
    """A track's segments, and its row [m, k] before scaling."""

    track: Segments
    row: Tensor


@dataclass(frozen=True)
class Checked:
    """What was found: song → check; rank correlation of predicted and measured changes; segments measured."""

    by_song: dict[int, Check]
    agreement: float | None
    segments: int


NOT_CHECKED = Checked({}, None, 0)


@dataclass(frozen=True)
class Checker:
    """The model and the index that a ranking is checked with; batch: samples in one pass."""

    model: Pipeline
    index: Index
    batch: int

    def changes(self, joint: Tensor, segments: Segments, before: Tensor) -> Tensor:
        """Step along every measure's part of `joint` [m k] and return Δ_m / η_m of every segment: [s, m]."""
        config, found = self.index.config, []
        theta, step = self.model.params(config.weights), Step(config.step)
        projection = row_requests(config, self.batch)[0].projection
        for probe, part, untouched in zip(self.probes, self.index.parts(joint), before, strict=True):
            direction: Params = pull_back(projection, part.to(self.model.device), theta)
            eta = step_length(theta, direction, step)
            after = values(self.model, stepped(theta, direction, eta), segments, probe)
            found.append(change(untouched, after) / eta)
        return torch.stack(found, 1).cpu()

    def untouched(self, segments: Segments) -> Tensor:
        """Return every measure of `segments` before any step: [m, s, draws]."""
        return values_each(self.model, {}, segments, self.probes)

    @property
    def probes(self) -> list[Probe]:
        """What is measured, measure by measure, on the same draws."""
        config = self.index.config
        return [Probe(measure, Grid(config.grid_seed, config.check_draws), self.batch) for measure in config.measures]

    def mirrored(self, query: Query, chosen: Tensor) -> Tensor:
        """Forget the track and return what that does to the segments `chosen` [c], in units of their scores: [c]."""
        segments = self.index.segments(self.model, chosen)
        moved = self.changes(self.index.solved(query.row), segments, self.untouched(segments))
        return (moved * self.index.factors(self.index.shard.rows.floats(chosen))).sum(1)

    def forward(self, query: Query, chosen: Tensor) -> Iterator[float]:
        """Forget each of the kept segments `chosen` [c] by itself; yield what that does to the track, as the score."""
        before, share = self.untouched(query.track), music_share(query.track)[:, None]
        for joint in self.index.solve(self.index.rows(chosen)):
            moved = self.changes(joint, query.track, before) * share
            yield float((moved * self.index.factors(query.row)).sum())


@dataclass(frozen=True)
class Prediction:
    """What the index says: scores of the kept segments [n], or what gives those of some, and of the songs [songs]."""

    scores: Numbers
    songs: Tensor


def checked(checker: Checker, query: Query, predicted: Prediction, progress: Progress) -> Checked:
    """Check the best segments of the first songs as `predicted`, and of some spread over the rest for contrast."""
    songs = _chosen(rank(predicted.songs))
    chosen = torch.tensor([own[0] for own in best_segments(checker.index, predicted.scores, songs, 1)])
    forgotten = checker.mirrored(query, chosen)
    progress(0.5)
    back: list[float | None] = [None] * len(songs)
    for place, found in enumerate(checker.forward(query, chosen[:FORWARD])):
        back[place] = found
        progress(0.5 + 0.5 * (place + 1) / FORWARD)
    rows = zip(songs[:CHECKED], forgotten.tolist(), back, strict=False)
    by_song = {song: Check(mirrored=there, forward=again) for song, there, again in rows}
    expected = predicted.scores[chosen.to(predicted.scores.device)].cpu()
    return Checked(by_song, agreement(expected, forgotten), len(chosen))


def _chosen(order: Tensor) -> list[int]:
    rest = order[CHECKED:]
    places = torch.linspace(0, len(rest) - 1, min(CONTRAST, len(rest))).long().to(order.device)
    return torch.cat([order[:CHECKED], rest[places]]).tolist()
