"""Building an index, file by file: what is already made is kept, so a build that was killed goes on where it stopped.

Every file carries the fingerprint of all that it was made from. Songs added to a finished index get files of their own;
what was fitted on the first songs (both curvatures, the background queries) stays as it is, so no other song's score
moves.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog
import torch
from torch import Tensor

from worker.attribution.curvature import fisher_diagonal
from worker.attribution.gradients import share
from worker.attribution.influence import by_song
from worker.attribution.measure import Probe, values
from worker.attribution.noise import Grid
from worker.attribution.types import Progress, Segments, silent
from worker.attribution.unlearn import Step, change, forget_direction, unlearn
from worker.index import (
    BACKGROUND,
    FISHER,
    Pipeline,
    gradient_rows,
    kept_segments,
    row_requests,
    unlearn_probe,
    unpacked_fisher,
)
from worker.manifest import NAME, IndexConfig, IndexedSong, IndexMismatch, Manifest
from worker.plan import FORGOTTEN, ROWS, Plan, Span, file_name
from worker.shards import (
    Bytes,
    Shard,
    compress_positive,
    file_digest,
    fingerprint,
    is_made,
    read,
    write,
)
from worker.training import TrainingSet

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Subject:
    """The model that an index is made for: its digest, window length in seconds, sampling rate in Hz.

    batch: samples in one pass, which changes speed and no result beyond rounding.
    """

    model: Pipeline
    digest: str
    segment_seconds: float
    sampling_rate: int
    batch: int = 16


@dataclass(frozen=True)
class Material:
    """What an index is made from: the training set, and unrelated tracks that the model generated, one a segment."""

    training: TrainingSet
    background: Segments


@dataclass(frozen=True)
class Piece:
    """One file of the index: its name, the fingerprint of what it is made from, and how it is made."""

    name: str
    recipe: str
    make: Callable[[Progress], dict[str, Tensor]]


def build(
    subject: Subject, material: Material, config: IndexConfig, folder: Path, progress: Progress = silent
) -> Manifest:
    """Build, resume or extend the index in `folder` and return its manifest, written last.

    `progress` is called with the fraction done and may raise: the next call goes on from the last finished file. Raises
    IndexMismatch when `folder` holds an index of another model, configuration or other first songs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier = _earlier(subject, config, folder)
    work = Build(subject, material, config, folder, Plan.of(material.training, config, earlier))
    pieces = list(work.pieces())
    for number, piece in enumerate(pieces):
        if not is_made(folder / piece.name, piece.recipe):
            made = piece.make(share(progress, number, len(pieces)))
            write(folder / piece.name, made, piece.recipe)
            log.info("index file made", file=piece.name, number=number + 1, of=len(pieces))
        progress((number + 1) / len(pieces))
    manifest = work.manifest({piece.name: file_digest(folder / piece.name) for piece in pieces})
    manifest.save(folder)
    return manifest


def _earlier(subject: Subject, config: IndexConfig, folder: Path) -> Manifest | None:
    if not (folder / NAME).exists():
        return None
    manifest = Manifest.read(folder)
    if (manifest.model_digest, manifest.config) != (subject.digest, config):
        raise IndexMismatch(f"{folder} holds an index of another model or configuration")
    return manifest


@dataclass(frozen=True)
class Build:
    """One build: what each file is made from, and how."""

    subject: Subject
    material: Material
    config: IndexConfig
    folder: Path
    layout: Plan

    def pieces(self) -> Iterator[Piece]:
        """Yield the index's files in the order in which they are made."""
        shards = [
            Piece(file_name(ROWS, span), self._recipe(self._facts(span)), self._rows(span)) for span in self.shards
        ]
        yield from shards
        fitted = [p.recipe for p, span in zip(shards, self.shards, strict=True) if span[1] <= self.layout.fitted]
        fisher = Piece(FISHER, self._recipe("fisher", *fitted), self._fisher)
        yield fisher
        tracks = self.material.background
        given = [tracks.latents, tracks.mask, tracks.cond.cross, tracks.cond.globals_]
        background = Piece(BACKGROUND, self._recipe("background", *given), self._background)
        yield background
        for span in self.layout.generations:
            made = [p.recipe for p, (first, _) in zip(shards, self.shards, strict=True) if span[0] <= first < span[1]]
            recipe = self._recipe("forgotten", fisher.recipe, background.recipe, *made)
            yield Piece(file_name(FORGOTTEN, span), recipe, self._forgotten(span))

    @property
    def shards(self) -> tuple[Span, ...]:
        """The songs of every shard, from the first to before the last."""
        return self.layout.shards

    def manifest(self, files: dict[str, str]) -> Manifest:
        """Return the manifest of the finished `files`, given with their checksums."""
        training, subject = self.material.training, self.subject
        counts = torch.bincount(training.song, minlength=len(training.songs)).tolist()
        return Manifest(
            model_digest=subject.digest,
            segment_seconds=subject.segment_seconds,
            sampling_rate=subject.sampling_rate,
            config=self.config,
            songs=tuple(
                IndexedSong(s.key, s.caption, n, s.begins_s) for s, n in zip(training.songs, counts, strict=True)
            ),
            shards=tuple(file_name(ROWS, span) for span in self.shards),
            fitted_songs=self.layout.fitted,
            files=files,
        )

    def _recipe(self, *made_from: object) -> str:
        return fingerprint(self.subject.digest, asdict(self.config), *made_from)

    def _facts(self, span: Span) -> str:
        part = self.material.training.part(*span)
        tensors = (part.latents, part.mask, part.song, part.weight, part.starts, part.totals)
        return fingerprint(span, [[song.key, song.caption] for song in part.songs], *tensors)

    def _rows(self, span: Span) -> Callable[[Progress], dict[str, Tensor]]:
        def make(progress: Progress) -> dict[str, Tensor]:
            part = self.material.training.part(*span)
            kept = Shard(
                rows=Bytes.of(torch.zeros(len(part), 1)),
                latents=Bytes.of(part.latents),
                mask=part.mask.to(torch.uint8),
                song=part.song + span[0],
                weight=part.weight,
                starts=part.starts,
                totals=part.totals,
            )
            segments = self._segments(kept)
            return replace(kept, rows=self._gradient_rows(segments, progress)).tensors()

        return make

    def _fisher(self, progress: Progress) -> dict[str, Tensor]:
        segments = self._segments(self._shard((0, self.layout.fitted)))
        probe = Probe(
            self.config.unlearn_measure, Grid(self.config.grid_seed, self.config.fisher_draws), self.subject.batch
        )
        return compress_positive(fisher_diagonal(self.subject.model, segments, probe, self.config.weights, progress))

    def _background(self, progress: Progress) -> dict[str, Tensor]:
        rows = self._gradient_rows(self.material.background, progress)
        return {"rows": rows.codes, "row_scale": rows.scale}

    def _gradient_rows(self, segments: Segments, progress: Progress) -> Bytes:
        requests = row_requests(self.config, self.subject.batch)
        return Bytes.of(gradient_rows(self.subject.model, segments, requests, 1, progress)[0])

    def _forgotten(self, span: Span) -> Callable[[Progress], dict[str, Tensor]]:
        def make(progress: Progress) -> dict[str, Tensor]:
            shard = self._shard(span)
            deltas = self._deltas(self._segments(shard), progress)
            scores = by_song(deltas, shard.song - span[0], shard.weight, span[1] - span[0])
            return {"scores": scores.float()}

        return make

    def _deltas(self, segments: Segments, progress: Progress) -> Tensor:
        """Forget each of the first background tracks by itself and return what that does to `segments`: [b, s]."""
        model, probe = self.subject.model, unlearn_probe(self.config, self.subject.batch)
        fisher = unpacked_fisher(read(self.folder / FISHER), self.config, model.device)
        theta = model.params(self.config.weights)
        before = values(model, {}, segments, probe)
        tracks, deltas = self.material.background[: self.config.forgotten], []
        for at in range(len(tracks)):
            direction = forget_direction(model, tracks[at : at + 1], probe, fisher)
            after = unlearn(theta, direction, Step(self.config.unlearn_step))
            deltas.append(change(before, values(model, after, segments, probe, share(progress, at, len(tracks)))).cpu())
        return torch.stack(deltas)

    def _shard(self, span: Span) -> Shard:
        names = [file_name(ROWS, part) for part in self.shards if span[0] <= part[0] < span[1]]
        return Shard.cat([Shard.from_tensors(read(self.folder / name)) for name in names])

    def _segments(self, shard: Shard) -> Segments:
        captions = [song.caption for song in self.material.training.songs]
        return kept_segments(self.subject.model, shard, captions, torch.arange(len(shard.song)))
