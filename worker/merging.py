"""From finished files to an index that can be opened.

Every file is checked, what all of them together give is computed, and only then a manifest makes them visible.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from worker.attribution.curvature import ProjectedCurvature
from worker.attribution.influence import by_song
from worker.fitting import fit_curvature, pieces
from worker.index import BACKGROUND, CURVATURE, Index
from worker.manifest import IndexedSong, IndexMismatch, Manifest
from worker.pieces import TRACKS, Maker, Piece
from worker.plan import ROWS, UNRELATED, Span, file_name, span
from worker.scan import scan_of
from worker.shards import Shard, file_digest, fingerprint, is_made, read, write
from worker.training import TrainingSet
from worker.verifying import verify


class BadPiece(IndexMismatch):
    """A file of the index is not what its plan says; `name` is made again."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name


def indexed(training: TrainingSet) -> tuple[IndexedSong, ...]:
    """Return the songs of a training set as a manifest names them."""
    counts = torch.bincount(training.song, minlength=len(training.songs)).tolist()
    return tuple(IndexedSong(s.key, s.caption, n, s.begins_s) for s, n in zip(training.songs, counts, strict=True))


def merge(maker: Maker, made: Sequence[Piece], songs: Sequence[IndexedSong], earlier: Manifest | None) -> Manifest:
    """Check the files `made`, add what is computed of all of them, and write the manifest over them and those before.

    Raises BadPiece for a file that is not of its recipe or its songs.
    """
    stored = (*(earlier.stored if earlier else ()), *songs)
    for piece in made:
        check(maker.folder / piece.name, piece, stored)
    kept = {TRACKS} if maker.plan.grows else set()
    names = [*(piece.name for piece in made), *kept]
    subject = maker.subject
    manifest = Manifest(
        model_digest=subject.digest,
        segment_seconds=subject.segment_seconds,
        sampling_rate=subject.sampling_rate,
        config=maker.config,
        stored=stored,
        shards=(*(earlier.shards if earlier else ()), *(file_name(ROWS, each) for each in maker.plan.shards)),
        fitted_songs=maker.plan.fitted,
        files=(earlier.files if earlier else {}) | {name: file_digest(maker.folder / name) for name in names},
        parent=earlier.index_digest if earlier else None,
    )
    whole = settled(maker.folder, manifest, subject.model.device)
    verify(maker.folder, whole.files)
    whole.save(maker.folder)
    return whole


def check(path: Path, piece: Piece, stored: Sequence[IndexedSong]) -> None:
    """Check a finished file against its recipe and, where it is a shard, its songs; raises BadPiece."""
    if not is_made(path, piece.recipe):
        raise BadPiece(piece.name, "it was made from something else, or is damaged")
    if piece.name.startswith(ROWS):
        first, last = span(piece.name)
        counts = torch.bincount(read(path)["song"], minlength=last)[first:].tolist()
        if counts != [song.segments for song in stored[first:last]]:
            raise BadPiece(piece.name, "it holds other segments than its songs have")


def settled(folder: Path, manifest: Manifest, device: torch.device | str = "cpu") -> Manifest:
    """Return `manifest` with what an open index would otherwise compute each time: curvature and background scores.

    The curvature is kept where it is smaller than the rows that it was fitted on. What is kept already stays.
    """
    index = Index.assembled(manifest, {name: read(folder / name) for name in manifest.files}, torch.device(device))
    made: dict[str, str] = {}
    fitted = sum(song.segments for song in manifest.stored[: manifest.fitted_songs])
    size = manifest.config.dim * len(manifest.config.measures)
    if CURVATURE not in manifest.files and fitted > 4 * size:
        rows = [checksum for name, checksum in manifest.files.items() if name in manifest.shards]
        recipe = fingerprint("curvature", manifest.fitted_songs, rows)
        if not is_made(folder / CURVATURE, recipe):
            factor = fit_curvature((index.rows(run) for run in pieces(0, fitted)), manifest.config.damping, device)
            write(folder / CURVATURE, factor.state_dict(), recipe)
        made[CURVATURE] = file_digest(folder / CURVATURE)
        index = replace(index, fitted=ProjectedCurvature.from_state(read(folder / CURVATURE)))
    first = max((span(name)[1] for name in manifest.files if name.startswith(UNRELATED)), default=0)
    if first < len(manifest.stored):
        name = file_name(UNRELATED, (first, len(manifest.stored)))
        made[name] = _unrelated(folder / name, index, (first, len(manifest.stored)))
    return replace(manifest, files=manifest.files | made)


def _unrelated(path: Path, index: Index, songs: Span) -> str:
    """Write the background's first-order sums of some songs [b, songs] and return the file's checksum."""
    files = index.manifest.files
    recipe = fingerprint("unrelated", songs, files[BACKGROUND], [files[name] for name in index.manifest.shards])
    if not is_made(path, recipe):
        own = Shard.stacked([read(path.parent / each) for each in index.manifest.shards if span(each)[0] >= songs[0]])
        solved = index.parts(index.solved(index.background_rows.floats()))
        scores = scan_of(own.rows, index.config.row_scale, index.device).scores(solved)
        sums = by_song(scores, own.song - songs[0], own.weight, songs[1] - songs[0])
        write(path, {"scores": sums}, recipe)
    return file_digest(path)
