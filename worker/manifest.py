"""What an index says about itself: how it was made, from what, and the fingerprints by which it is refused.

Every change of an index is another manifest over the same immutable files: the newest is `manifest.json`, and each of
them lies in `versions/` under its digest, so that an earlier version can still be opened.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.attribution.influence import RowScale
from worker.attribution.measure import Measure

FORMAT = 3
READABLE = (2, 3)
NAME = "manifest.json"
VERSIONS = "versions"
FRESH_BITS = 4
"""Bits of a number in a row of a new index."""


class IndexMismatch(Exception):
    """The index was made for another model, another catalogue or by another format, or its files were changed."""


@dataclass(frozen=True)
class IndexConfig:
    """Every choice that a row of the index depends on.

    measures: what a song's segment is scored by in the index, each a part of its row; song_power: of the signed power
    that makes a song's score of its segments' sum; unlearn_measure: what finite-step unlearning measures, where only
    the denoising loss is unlearning proper. dim: numbers a measure in a row. draws, check_draws, unlearn_draws,
    fisher_draws, fit_draws: how many (t, eps) draws of the one frozen grid each use takes, always the first. damping:
    of the projected curvature, relative to its mean eigenvalue; fisher_damping: of the diagonal one, relative to its
    mean. weights: regular expression of the weight selection. step, unlearn_step: lengths of a finite step relative to
    the selected weights' norm, where a ranking is checked and where unlearning makes the ranking. forgotten: how many
    of the background tracks finite-step unlearning has a background of. bits: of a number in a kept row, 8 or 4.
    """

    measures: tuple[Measure, ...] = (Measure.SQUARED_OUTPUT, Measure.SQUARED_NOISE)
    song_power: float = 2.0
    unlearn_measure: Measure = Measure.LOSS
    draws: int = 64
    check_draws: int = 8
    unlearn_draws: int = 16
    fisher_draws: int = 16
    fit_draws: int = 32
    grid_seed: int = 20240613
    projection_seed: int = 7
    dim: int = 2048
    nonzeros: int = 4
    damping: float = 1.0
    fisher_damping: float = 0.3
    weights: str = r"^transformer_blocks\..*(attn|ff).*\.weight$"
    row_scale: RowScale = RowScale.UNIT
    step: float = 1e-3
    unlearn_step: float = 1e-2
    forgotten: int = 16
    songs_per_shard: int = 8
    bits: int = 8

    def said(self) -> dict[str, Any]:
        """Return the choices as a manifest tells of them; whole bytes, which once were the only way, are left out."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("bits", 8)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "IndexConfig":
        """Read what `said` gave. Raises TypeError or ValueError on unknown fields or values."""
        read = {"measures": _measures, "unlearn_measure": Measure, "row_scale": RowScale}
        typed: dict[str, Any] = {name: read[name](v) if name in read else v for name, v in values.items()}
        return cls(**typed)


def fresh(given: dict[str, Any]) -> IndexConfig:
    """Return the choices of a new index: those `given`, and rows in four bits unless it says otherwise.

    What halves the index costs no faithfulness that was measurable (bench/results/scale.json, `four_bits`); indexes
    from before there were fewer bits say nothing of them and have eight. Raises what `IndexConfig.from_json` raises.
    """
    return IndexConfig.from_json({"bits": FRESH_BITS} | given)


def _measures(names: Iterable[str]) -> tuple[Measure, ...]:
    return tuple(Measure(name) for name in names)


@dataclass(frozen=True)
class IndexedSong:
    """A song of the training set: its key in the catalogue, the caption it was trained under, its kept segments.

    begins_s: where in the recording the part that was trained on begins, in seconds. removed: taken down, never ranked;
    same_as: key of the song that it is a duplicate of, under which its segments count.
    """

    key: str
    caption: str | None
    segments: int
    begins_s: float = 0.0
    removed: bool = False
    same_as: str | None = None

    def said(self) -> dict[str, Any]:
        """Return the song as the manifest tells of it; what does not differ from a plain song's is left out."""
        facts = {"key": self.key, "caption": self.caption, "segments": self.segments, "begins_s": self.begins_s}
        marks = {"removed": self.removed, "same_as": self.same_as}
        return facts | {name: value for name, value in marks.items() if value}


@dataclass(frozen=True)
class Manifest:
    """The index's passport; `files` maps each file's name to the SHA-256 of its contents.

    stored: every song whose rows the files hold, in their order; shards: names of the files of rows, in that order;
    fitted_songs: how many of the first songs the curvatures were fitted on, which later songs leave as they are;
    parent: digest of the version that this one was made of.
    """

    model_digest: str
    segment_seconds: float
    sampling_rate: int
    config: IndexConfig
    stored: tuple[IndexedSong, ...]
    shards: tuple[str, ...]
    fitted_songs: int
    files: dict[str, str]
    parent: str | None = None

    @cached_property
    def songs(self) -> tuple[IndexedSong, ...]:
        """The songs that are ranked: the stored ones without those removed or counted under another."""
        return tuple(self.stored[at] for at in self.numbers)

    @cached_property
    def numbers(self) -> list[int]:
        """Where in `stored` the songs that are ranked lie."""
        return [at for at, song in enumerate(self.stored) if not song.removed and song.same_as is None]

    @cached_property
    def duplicates(self) -> list[tuple[int, int]]:
        """Which of `stored` count under which of `songs`."""
        at = {song.key: place for place, song in enumerate(self.songs)}
        counted = ((number, song.same_as) for number, song in enumerate(self.stored) if not song.removed)
        return [(number, at[key]) for number, key in counted if key in at]

    @cached_property
    def index_digest(self) -> str:
        """SHA-256 of everything that the manifest says, the files' own checksums included."""
        return _digest(self._content())

    def save(self, folder: Path) -> None:
        """Write the manifest into `folder` as a version and as the newest, each whole or not at all, in this order."""
        content = {"format": FORMAT, "index_digest": self.index_digest, **self._content()}
        text = json.dumps(content, indent=1) + "\n"
        (folder / VERSIONS).mkdir(exist_ok=True)
        if (folder / NAME).exists() and self.parent:
            put(folder / VERSIONS / f"{self.parent}.json", _path(folder, self.parent).read_bytes())
        put(folder / VERSIONS / f"{self.index_digest}.json", text.encode())
        put(folder / NAME, text.encode())

    @classmethod
    def read(cls, folder: Path, version: str | None = None) -> "Manifest":
        """Read the newest manifest in `folder`, or that of the index digest `version`.

        Raises IndexMismatch when it is absent, edited or of an unknown format.
        """
        try:
            content = json.loads(_path(folder, version).read_text())
            if content["format"] not in READABLE:
                raise IndexMismatch(f"the index in {folder} is of format {content['format']}, not one of {READABLE}")
            manifest = cls._from_json(content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexMismatch(f"the index manifest in {folder} cannot be read: {error!r}") from error
        if not content.get("index_digest") == manifest.index_digest == (version or manifest.index_digest):
            raise IndexMismatch(f"the index manifest in {folder} does not match its own digest")
        return manifest

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> "Manifest":
        return cls(
            model_digest=content["model_digest"],
            segment_seconds=content["segment_seconds"],
            sampling_rate=content["sampling_rate"],
            config=IndexConfig.from_json(content["config"]),
            stored=tuple(IndexedSong(**song) for song in content["songs"]),
            shards=tuple(content["shards"]),
            fitted_songs=content["fitted_songs"],
            files=content["files"],
            parent=content.get("parent"),
        )

    def _content(self) -> dict[str, Any]:
        plain = ("model_digest", "segment_seconds", "sampling_rate", "shards", "fitted_songs", "files")
        said = {name: getattr(self, name) for name in plain} | {"config": self.config.said()}
        said |= {"songs": [song.said() for song in self.stored]} | ({"parent": self.parent} if self.parent else {})
        return said | {"catalogue_digest": catalogue_digest(song.key for song in self.stored)}


def read_format(folder: Path) -> int:
    """Return the format that the newest manifest in `folder` was written in; raises IndexMismatch."""
    try:
        return int(json.loads((folder / NAME).read_text())["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexMismatch(f"the index manifest in {folder} cannot be read: {error!r}") from error


def versions(folder: Path) -> Iterator[Manifest]:
    """Yield the manifests of the index in `folder`, the newest first, as far back as they are kept."""
    manifest: Manifest | None = Manifest.read(folder)
    while manifest is not None:
        yield manifest
        parent = manifest.parent
        manifest = Manifest.read(folder, parent) if parent and _path(folder, parent).exists() else None


def put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, also through a loss of power."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def catalogue_digest(keys: Iterable[str]) -> str:
    """Return the SHA-256 that stands for a set of song keys, whatever their order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def _path(folder: Path, version: str | None) -> Path:
    """Return where a version lies; one that was written before versions were kept is known as the newest alone."""
    kept = folder / VERSIONS / f"{version}.json"
    return kept if version is not None and kept.exists() else folder / NAME


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
