"""Whether the files of an index are those that its manifest lists, without reading all of them at every start.

A file's contents are digested once; as long as its size, its times of modification and change and its inode stay as
they were, it counts as unchanged. What was verified is noted beside the index, where that can be written.
"""

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from worker.manifest import IndexMismatch, Manifest, put
from worker.shards import file_digest

STAMPS = ".verified.json"
Stamp = list[int]


@dataclass(frozen=True)
class Expected:
    """What an index must have been made for: the digest of the model, and the catalogue's song keys."""

    model_digest: str
    keys: Iterable[str]


def require(manifest: Manifest, folder: Path, expected: Expected, *, newest: bool) -> None:
    """Refuse an index of another model, or of songs that the catalogue does not name; the newest is of all of them."""
    if manifest.model_digest != expected.model_digest:
        raise IndexMismatch(f"the index in {folder} was made for model {manifest.model_digest[:12]}, not this one")
    named, stored = set(expected.keys), {song.key for song in manifest.stored}
    if stored - named or (newest and stored != named):
        raise IndexMismatch(f"the index in {folder} was made for other songs than the catalogue names")


def verify(folder: Path, files: Mapping[str, str], *, thorough: bool = False) -> None:
    """Check every file in `folder` against its SHA-256 in `files`; `thorough` trusts no earlier check.

    Raises IndexMismatch for a file that is absent or another one.
    """
    known = {} if thorough else _known(folder)
    stamps = {name: _stamp(folder / name) for name in files}
    due = [name for name, checksum in files.items() if known.get(name) != [checksum, stamps[name]]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_check, folder, files), due))
    if due:
        noted = known | {name: [checksum, stamps[name]] for name, checksum in files.items()}
        with suppress(OSError):  # a read-only folder is verified whole at every start
            put(folder / STAMPS, json.dumps(noted).encode())


def _check(folder: Path, files: Mapping[str, str], name: str) -> None:
    try:
        found = file_digest(folder / name)
    except OSError as error:
        raise IndexMismatch(f"{folder / name} cannot be read: {error}") from error
    if found != files[name]:
        raise IndexMismatch(f"{folder / name} is not the file that the manifest lists")


def _known(folder: Path) -> dict[str, list[str | Stamp]]:
    try:
        return dict(json.loads((folder / STAMPS).read_text()))
    except (OSError, ValueError):
        return {}


def _stamp(path: Path) -> Stamp:
    try:
        facts = path.stat()
    except OSError as error:
        raise IndexMismatch(f"{path} cannot be read: {error}") from error
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
