"""The files of an index one by one: what each is made from, when it can be made, and how.

Files of one stage need nothing of each other, so any number of workers can make them at the same time. Every file
carries the fingerprint of all that it was made from; equal fingerprints mean equal files.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from worker.attribution.curvature import fisher_diagonal
from worker.attribution.gradients import share
from worker.attribution.influence import by_song
from worker.attribution.measure import Probe, values
from worker.attribution.noise import Grid
from worker.attribution.replay import Kept, rows_of
from worker.attribution.types import Conditioning, Model, Progress, Segments
from worker.attribution.unlearn import Step, change, forget_direction, unlearn
from worker.index import (
    BACKGROUND,
    FISHER,
    Pipeline,
    kept_segments,
    row_requests,
    unlearn_probe,
    unpacked_fisher,
)
from worker.manifest import IndexConfig
from worker.plan import FORGOTTEN, ROWS, Plan, Span, file_name, span
from worker.shards import Bytes, Shard, compress_positive, fingerprint, read, recipe_of
from worker.training import TrainingSet

TRACKS = "tracks.safetensors"
FISHER_SEGMENTS = 4096
"""The diagonal Fisher is a mean, taken over songs spread evenly over those fitted on, up to about so many segments."""


class Stage(IntEnum):
    """When a file can be made: after those of all earlier stages."""

    CUT = 0
    GRADIENTS = 1
    FORGETTING = 2
    MERGE = 3


@dataclass(frozen=True)
class Subject:
    """The model that an index is made for: its digest, window length in seconds, sampling rate in Hz.

    batch: samples in one pass, which changes speed and no result beyond rounding; fast: the same model for rows alone,
    where it may compute in less precision; recorded: CUDA graphs that make rows.
    """

    model: Pipeline
    digest: str
    segment_seconds: float
    sampling_rate: int
    batch: int = 16
    fast: Model | None = None
    recorded: Kept = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """One file to make: its name, its stage, the fingerprint of what it is made from, how many segments it is about."""

    name: str
    stage: Stage
    recipe: str
    segments: int

    def work(self, config: IndexConfig) -> float:
        """Return about how many forward passes of one segment it takes; one backward counts as two."""
        if self.name.startswith(FORGOTTEN):
            return self.segments * config.unlearn_draws * (1.0 + config.forgotten)
        passes = {FISHER: config.fisher_draws, TRACKS: 0}
        return 3.0 * self.segments * passes.get(self.name, config.draws * len(config.measures))


class Source(Protocol):
    """Where the songs and tracks that an index is made from come from."""

    def part(self, songs: Span) -> TrainingSet:
        """Return the songs of a shard, counted as in the plan, with their segments."""
        ...

    def sample(self) -> TrainingSet:
        """Return the songs that the diagonal Fisher is taken over; asked only where no index was before."""
        ...

    def tracks(self) -> Segments:
        """Return the unrelated tracks that the model generated; asked only where no index was before."""
        ...


def sampled(training: TrainingSet) -> TrainingSet:
    """Return songs spread evenly over `training` with about `FISHER_SEGMENTS` segments, or all where they are few."""
    step = -(-len(training) // FISHER_SEGMENTS)
    return training if step <= 1 else training.every(step)


@dataclass(frozen=True)
class Maker:
    """How the files of one plan are made, those of earlier stages lying in `folder`."""

    subject: Subject
    config: IndexConfig
    plan: Plan
    source: Source
    folder: Path

    def pieces(self) -> Iterator[Piece]:
        """Yield the files that the model is needed for, in the order in which one worker makes them."""
        rows = {songs: self._shard_piece(songs) for songs in self.plan.shards}
        yield from rows.values()
        if self.plan.grows:
            fisher, background = recipe_of(self.folder / FISHER), recipe_of(self.folder / BACKGROUND)
        else:
            tracks = self.source.tracks()
            fisher = self._recipe("fisher", *(piece.recipe for piece in rows.values()))
            background = self.of_tracks("background", tracks)
            yield Piece(FISHER, Stage.GRADIENTS, fisher, len(self.source.sample()))
            yield Piece(BACKGROUND, Stage.GRADIENTS, background, len(tracks))
            yield Piece(TRACKS, Stage.GRADIENTS, self.of_tracks("tracks", tracks), len(tracks))
        for songs, piece in rows.items():
            recipe = self._recipe("forgotten", fisher, background, piece.recipe)
            yield Piece(file_name(FORGOTTEN, songs), Stage.FORGETTING, recipe, piece.segments)

    def of_tracks(self, use: str, tracks: Segments) -> str:
        """Return the fingerprint of a `use` of the unrelated tracks."""
        return self._recipe(use, tracks.latents, tracks.mask, tracks.cond.cross, tracks.cond.globals_)

    def make(self, name: str, progress: Progress) -> dict[str, Tensor]:
        """Return the tensors of the file `name`."""
        if name == FISHER:
            return self._fisher(progress)
        if name == BACKGROUND:
            return self._background(progress)
        if name == TRACKS:
            return packed_tracks(self.source.tracks()[: self.config.forgotten])
        make = self._rows if name.startswith(ROWS) else self._forgotten
        return make(span(name), progress)

    def _shard_piece(self, songs: Span) -> Piece:
        part = self.source.part(songs)
        tensors = (part.latents, part.mask, part.song, part.weight, part.starts, part.totals)
        facts = fingerprint(songs, [[song.key, song.caption] for song in part.songs], *tensors)
        return Piece(file_name(ROWS, songs), Stage.GRADIENTS, self._recipe(facts), len(part))

    def _recipe(self, *made_from: object) -> str:
        return fingerprint(self.subject.digest, self.config.said(), *made_from)

    def _rows(self, songs: Span, progress: Progress) -> dict[str, Tensor]:
        part = self.source.part(songs)
        shard = kept(part, songs[0])
        rows = self._gradient_rows(self._segments(part), progress, self.config.bits)
        return replace(shard, rows=rows).tensors()

    def _fisher(self, progress: Progress) -> dict[str, Tensor]:
        config = self.config
        probe = Probe(config.unlearn_measure, Grid(config.grid_seed, config.fisher_draws), self.subject.batch)
        segments = self._segments(self.source.sample())
        return compress_positive(fisher_diagonal(self.subject.model, segments, probe, config.weights, progress))

    def _background(self, progress: Progress) -> dict[str, Tensor]:
        rows = self._gradient_rows(self.source.tracks(), progress)
        return rows.tensors("row")

    def _gradient_rows(self, segments: Segments, progress: Progress, bits: int = 8) -> Bytes:
        requests = row_requests(self.config, self.subject.batch)
        model, kept = self.subject.fast or self.subject.model, self.subject.recorded
        return Bytes.of(rows_of(model, segments, requests, 1, kept, progress).rows[0].cpu(), bits)

    def _forgotten(self, songs: Span, progress: Progress) -> dict[str, Tensor]:
        part = self.source.part(songs)
        deltas = self._deltas(self._segments(part), progress)
        return {"scores": by_song(deltas, part.song, part.weight, len(part.songs)).float()}

    def _deltas(self, segments: Segments, progress: Progress) -> Tensor:
        """Forget each of the kept background tracks by itself and return what that does to `segments`: [b, s]."""
        model, probe = self.subject.model, unlearn_probe(self.config, self.subject.batch)
        fisher = unpacked_fisher(read(self.folder / FISHER), self.config, model.device)
        theta, before = model.params(self.config.weights), values(model, {}, segments, probe)
        tracks, deltas = unpacked_tracks(read(self.folder / TRACKS)), []
        for at in range(len(tracks)):
            direction = forget_direction(model, tracks[at : at + 1], probe, fisher)
            after = unlearn(theta, direction, Step(self.config.unlearn_step))
            deltas.append(change(before, values(model, after, segments, probe, share(progress, at, len(tracks)))).cpu())
        return torch.stack(deltas)

    def _segments(self, part: TrainingSet) -> Segments:
        captions = [song.caption for song in part.songs]
        return kept_segments(self.subject.model, kept(part, 0), captions, torch.arange(len(part)))


def kept(part: TrainingSet, first: int) -> Shard:
    """Return what an index keeps of a part of the training set whose first song is number `first`, yet without rows."""
    return Shard(
        rows=Bytes.of(torch.zeros(len(part), 1)),
        latents=Bytes.of(part.latents),
        mask=part.mask.to(torch.uint8),
        song=part.song + first,
        weight=part.weight,
        starts=part.starts,
        totals=part.totals,
    )


def packed_tracks(tracks: Segments) -> dict[str, Tensor]:
    """Return what is kept of generated tracks, so that songs that come later meet the same ones."""
    latents = Bytes.of(tracks.latents)
    told = {"cross": tracks.cond.cross.half(), "told": tracks.cond.mask, "globals": tracks.cond.globals_.half()}
    return latents.tensors("latent") | {"mask": tracks.mask.to(torch.uint8)} | told


def unpacked_tracks(packed: dict[str, Tensor]) -> Segments:
    """Return what `packed_tracks` kept."""
    cond = Conditioning(packed["cross"].float(), packed["told"], packed["globals"].float())
    return Segments(Bytes(packed["latents"], packed["latent_scale"]).floats(), packed["mask"].float(), cond)
