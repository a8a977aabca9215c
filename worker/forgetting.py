"""A counterfactual: the model forgets a song in a copy of its weights, and the track is measured and made again.

The step is that of `method=unlearn`, taken the other way round: the song is forgotten instead of the track, along the
same curvature and as far. A control song is forgotten just so, because any step of that length changes something. The
change is measured on a grid of its own, independent of the one that rankings are made with.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from worker.attribution.counterfactual import Apart, Shift, apart, moved, shift
from worker.attribution.gradients import music_share, share
from worker.attribution.measure import Probe, exact_float32, values
from worker.attribution.noise import Grid
from worker.attribution.types import Params, Progress, Segments
from worker.attribution.unlearn import Step, forget_direction, unlearn
from worker.diffusion.stable_audio import Sampling, StableAudio
from worker.index import Index
from worker.methods import Stages

GRADIENT_DRAWS = 32
MEASURED_DRAWS = 64
SONG_DRAWS = 8
MEASURED_GRID = 1_409_027
"""Seed of the grid that changes are measured on: neither that of any index nor that of the retrained models."""


@dataclass(frozen=True)
class Asked:
    """Which song shall be forgotten beside which control (None: no other one), and how the track is made again.

    song, control: keys in the index; seconds: length, at most one window.
    """

    song: str
    control: str | None
    prompt: str
    seed: int
    seconds: float | None = None


@dataclass(frozen=True)
class Version:
    """What forgetting one song did.

    audio: the track made again [ch, n]; change: of the track's loss; own: of the forgotten song's own loss, which says
    how far it was forgotten; apart: this recording from the baseline, None where that is silent.
    """

    audio: np.ndarray
    change: Shift
    own: Shift
    apart: Apart | None


@dataclass(frozen=True)
class Counterfactual:
    """The track made again with nothing forgotten, without the song, and without the control song.

    baseline: [ch, n] at `rate` Hz; loss: the track's, before anything was forgotten; difference: the song's change less
    the control's, draw by draw; likeness: the baseline from the track; timings: seconds by stage; details: how.
    """

    rate: int
    baseline: np.ndarray
    loss: float
    song: Version
    control: Version | None
    difference: Shift | None
    likeness: Apart | None = None
    timings: dict[str, float] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Forgetter:
    """The model and the index whose songs it forgets; batch: samples in one pass."""

    model: StableAudio
    index: Index
    batch: int

    def counterfactual(self, track: Segments, asked: Asked, stages: Stages) -> Counterfactual:
        """Forget each song, measure the track and make it again; the resident weights stay as they are.

        Raises KeyError for a song that the index does not rank.
        """
        songs = [self.segments(key) for key in (asked.song, asked.control) if key is not None]
        with stages("forgetting") as progress:
            after = [self.without(song, share(progress, n, len(songs))) for n, song in enumerate(songs)]
        with stages("measuring") as progress:
            loss, draws, owns = self._measured(track, songs, after, progress)
        with stages("generating") as progress:
            takes = self._takes(asked, after, progress)
        versions = [
            Version(take, shift(change), own, compared(takes[0], take))
            for take, change, own in zip(takes[1:], draws, owns, strict=True)
        ]
        return Counterfactual(
            rate=self.model.form.rate,
            baseline=takes[0],
            loss=loss,
            song=versions[0],
            control=versions[1] if len(versions) > 1 else None,
            difference=shift(draws[0] - draws[1]) if len(draws) > 1 else None,
            timings=stages.seconds,
            details=self._details(),
        )

    def segments(self, key: str) -> Segments:
        """Return the kept segments of a song and of its duplicates; raises KeyError where it is not ranked."""
        manifest, keys = self.index.manifest, self.index.keys
        if key not in keys:
            raise KeyError(key)
        number = keys.index(key)
        stored = [manifest.numbers[number], *(at for at, place in manifest.duplicates if place == number)]
        chosen = torch.isin(self.index.shard.song, torch.tensor(stored)).nonzero().flatten()
        return self.index.segments(self.model, chosen)

    def without(self, song: Segments, progress: Progress) -> dict[str, Tensor]:
        """Return the weights, by name, of a model that forgot `song`."""
        config = self.index.config
        probe = Probe(config.unlearn_measure, Grid(config.grid_seed, GRADIENT_DRAWS), self.batch)
        with exact_float32():
            direction = forget_direction(self.model, song, probe, self.index.fisher(self.model.device), progress)
        return unlearn(self.model.params(config.weights), direction, Step(config.unlearn_step))

    def changes(self, segments: Segments, after: Params, draws: int) -> Tensor:
        """Return how far the measure of `segments` moves, draw by draw: [draws]."""
        return moved(self.measured({}, segments, draws), self.measured(after, segments, draws), music_share(segments))

    def _measured(
        self, track: Segments, songs: list[Segments], after: list[dict[str, Tensor]], progress: Progress
    ) -> tuple[float, list[Tensor], list[Shift]]:
        """Return the track's loss, how it moves without each song [draws], and how each song's own loss moves."""
        weight, steps = music_share(track), 1 + 2 * len(songs)
        before = self.measured({}, track, MEASURED_DRAWS)
        draws: list[Tensor] = []
        owns: list[Shift] = []
        for song, params in zip(songs, after, strict=True):
            progress((1 + 2 * len(owns)) / steps)
            draws.append(moved(before, self.measured(params, track, MEASURED_DRAWS), weight))
            progress((2 + 2 * len(owns)) / steps)
            owns.append(shift(self.changes(song, params, SONG_DRAWS)))
        return float(weight.double() @ before.double().mean(1).cpu()), draws, owns

    def measured(self, params: Params, segments: Segments, draws: int) -> Tensor:
        """Return the measure of `segments` on the grid of changes, `params` in place of weights: [s, draws]."""
        probe = Probe(self.index.config.unlearn_measure, Grid(MEASURED_GRID, draws), self.batch)
        return values(self.model, params, segments, probe)

    def _takes(self, asked: Asked, after: list[dict[str, Tensor]], progress: Progress) -> list[np.ndarray]:
        """Make the track with nothing forgotten, then without each song; the copies go one by one."""
        takes = []
        for number, params in enumerate([{}, *after]):
            made = self.model.having(params) if params else self.model
            told = share(progress, number, 1 + len(after))
            takes.append(made.generate(asked.prompt, asked.seed, asked.seconds, progress=told))
        return takes

    def _details(self) -> dict[str, object]:
        config, how = self.index.config, Sampling()
        return {
            "measure": config.unlearn_measure,
            "step": config.unlearn_step,
            "fisher_damping": config.fisher_damping,
            "gradient_draws": GRADIENT_DRAWS,
            "draws": MEASURED_DRAWS,
            "grid_seed": config.grid_seed,
            "measured_grid_seed": MEASURED_GRID,
            "steps": how.steps,
            "guidance": how.guidance,
            "device": str(self.model.device),
        }


def compared(first: np.ndarray, second: np.ndarray) -> Apart | None:
    """Compare two recordings [ch, n] over the length of the shorter one; None where the first is silent there."""
    length = min(first.shape[1], second.shape[1])
    if not first[:, :length].any():
        return None
    return apart(torch.from_numpy(first[:, :length]), torch.from_numpy(second[:, :length]))
