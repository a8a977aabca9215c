"""Building an index, file by file: what is already made is kept, so a build that was killed goes on where it stopped.

Songs added to a finished index get files of their own; what was fitted on the first songs (both curvatures, the
background queries) stays as it is, so no other song's score moves.
"""

from dataclasses import dataclass
from pathlib import Path

import structlog

from worker.attribution.gradients import share
from worker.attribution.types import Progress, Segments, silent
from worker.editing import held
from worker.index import BACKGROUND
from worker.manifest import NAME, IndexConfig, IndexMismatch, Manifest
from worker.merging import indexed, merge
from worker.pieces import TRACKS, Maker, Subject, sampled
from worker.plan import Plan, Span
from worker.shards import is_made, recipe_of, write
from worker.training import TrainingSet
from worker.verifying import verify

__all__ = ["Material", "Subject", "add", "build"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Material:
    """What an index is made from: songs, and unrelated tracks that the model generated, one a segment."""

    training: TrainingSet
    background: Segments


@dataclass(frozen=True)
class Whole:
    """Songs, counted from `first` on, and tracks that lie in memory."""

    material: Material
    first: int = 0

    def part(self, songs: Span) -> TrainingSet:
        """Return some of the songs."""
        return self.material.training.part(songs[0] - self.first, songs[1] - self.first)

    def sample(self) -> TrainingSet:
        """Return the songs that the diagonal Fisher is taken over."""
        return sampled(self.material.training)

    def tracks(self) -> Segments:
        """Return the unrelated tracks."""
        return self.material.background


def build(
    subject: Subject, material: Material, config: IndexConfig, folder: Path, progress: Progress = silent
) -> Manifest:
    """Build, resume or extend the index in `folder` and return its manifest, written last.

    `progress` is called with the fraction done and may raise: the next call goes on from the last finished file. Raises
    IndexMismatch when `folder` holds an index of another model, configuration or other first songs.
    """
    if (folder / NAME).exists():
        return _extended(subject, material, config, folder, progress)
    with held(folder):
        plan = Plan.of(len(material.training.songs), config)
        return _built(Maker(subject, config, plan, Whole(material), folder), None, progress)


def add(subject: Subject, material: Material, folder: Path, progress: Progress = silent) -> Manifest:
    """Add the songs of `material` to the index in `folder`, against its curvatures and background as they are.

    The tracks of `material` are needed only by an index of format 2, which did not keep its own. Raises IndexMismatch
    for an index of another model, songs that it has, and tracks that are not those it was built with.
    """
    with held(folder):
        earlier = Manifest.read(folder)
        if earlier.model_digest != subject.digest:
            raise IndexMismatch(f"{folder} holds an index of another model")
        again = {song.key for song in earlier.stored} & {song.key for song in material.training.songs}
        if again:
            raise IndexMismatch(f"the index in {folder} has the song {min(again)!r} already")
        verify(folder, earlier.files)
        plan = Plan.of(len(material.training.songs), earlier.config, earlier)
        maker = Maker(subject, earlier.config, plan, Whole(material, plan.known), folder)
        if TRACKS not in earlier.files:
            _keep_tracks(maker)
        return _built(maker, earlier, progress)


def _extended(subject: Subject, material: Material, config: IndexConfig, folder: Path, progress: Progress) -> Manifest:
    earlier, training = Manifest.read(folder), material.training
    if (earlier.model_digest, earlier.config) != (subject.digest, config):
        raise IndexMismatch(f"{folder} holds an index of another model or configuration")
    known = len(earlier.stored)
    if [song.key for song in training.songs[:known]] != [song.key for song in earlier.stored]:
        raise IndexMismatch("the index is of other songs: new songs come after the present ones")
    if known == len(training.songs):
        return earlier
    later = Material(training.part(known, len(training.songs)), material.background)
    return add(subject, later, folder, progress)


def _built(maker: Maker, earlier: Manifest | None, progress: Progress) -> Manifest:
    pieces = list(maker.pieces())
    for number, piece in enumerate(pieces):
        if not is_made(maker.folder / piece.name, piece.recipe):
            made = maker.make(piece.name, share(progress, number, len(pieces) + 1))
            write(maker.folder / piece.name, made, piece.recipe)
            log.info("index file made", file=piece.name, number=number + 1, of=len(pieces))
        progress((number + 1) / (len(pieces) + 1))
    whole = maker.source.part((maker.plan.known, maker.plan.total))
    manifest = merge(maker, pieces, indexed(whole), earlier)
    progress(1.0)
    return manifest


def _keep_tracks(maker: Maker) -> None:
    """Keep the tracks that an index of format 2 was built with; raises IndexMismatch for any others."""
    tracks = maker.source.tracks()
    if recipe_of(maker.folder / BACKGROUND) != maker.of_tracks("background", tracks):
        raise IndexMismatch(f"the index in {maker.folder} was built with other background tracks than these")
    write(maker.folder / TRACKS, maker.make(TRACKS, silent), maker.of_tracks("tracks", tracks))
