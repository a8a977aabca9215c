"""Changes of a finished index that need no model: each writes another manifest over the same files.

A song that is removed keeps its rows, of which the curvature was fitted and which earlier versions need, but is never
ranked again. Duplicates count under one song. Nobody else's score moves: a song's score depends on its own rows, the
query and the curvature alone.
"""

import fcntl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from worker.manifest import IndexedSong, IndexMismatch, Manifest

LOCK = ".lock"


class CannotEdit(IndexMismatch):
    """The change names a song that the index does not rank, or makes no sense."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the index in `folder`, created when missing, for this process alone. Raises IndexMismatch when held."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IndexMismatch(f"the index in {folder} is being changed by another process") from error
        for torn in folder.rglob("*.partial"):
            torn.unlink(missing_ok=True)
        yield


def remove(folder: Path, keys: Collection[str]) -> Manifest:
    """Take songs down, with all that counts under them; doing it again changes nothing. Raises CannotEdit."""
    with held(folder):
        manifest = Manifest.read(folder)
        _known(manifest, keys)

        def changed(song: IndexedSong) -> IndexedSong:
            return replace(song, removed=True) if song.key in keys or song.same_as in keys else song

        return _saved(folder, manifest, tuple(map(changed, manifest.stored)))


def join(folder: Path, duplicates: Collection[str], song: str) -> Manifest:
    """Count `duplicates`, and what counts under them, under `song`. Raises CannotEdit for a song that is not ranked."""
    with held(folder):
        manifest = Manifest.read(folder)
        _known(manifest, [song, *duplicates])
        if song not in {each.key for each in manifest.songs} or song in duplicates:
            raise CannotEdit(f"{song!r} is itself removed, a duplicate, or to be counted under itself")

        def changed(each: IndexedSong) -> IndexedSong:
            return replace(each, same_as=song) if each.key in duplicates or each.same_as in duplicates else each

        return _saved(folder, manifest, tuple(map(changed, manifest.stored)))


def _known(manifest: Manifest, keys: Collection[str]) -> None:
    unknown = set(keys) - {song.key for song in manifest.stored}
    if unknown:
        raise CannotEdit(f"the index holds no song {min(unknown)!r}")


def _saved(folder: Path, manifest: Manifest, stored: tuple[IndexedSong, ...]) -> Manifest:
    if stored == manifest.stored:
        return manifest
    later = replace(manifest, stored=stored, parent=manifest.index_digest)
    if not later.songs:
        raise CannotEdit("an index without a song to rank cannot be used")
    later.save(folder)
    return later
