"""What an index says about itself: how it was made, from what, and the fingerprints by which it is refused."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worker.attribution.influence import RowScale
from worker.attribution.measure import Measure

FORMAT = 2
NAME = "manifest.json"


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
    of the background tracks finite-step unlearning has a background of.
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

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "IndexConfig":
        """Read what `asdict` wrote. Raises TypeError or ValueError on unknown fields or values."""
        read = {"measures": _measures, "unlearn_measure": Measure, "row_scale": RowScale}
        typed: dict[str, Any] = {name: read[name](v) if name in read else v for name, v in values.items()}
        return cls(**typed)


def _measures(names: Iterable[str]) -> tuple[Measure, ...]:
    return tuple(Measure(name) for name in names)


@dataclass(frozen=True)
class IndexedSong:
    """A song of the training set: its key in the catalogue, the caption it was trained under, its kept segments.

    begins_s: where in the recording the part that was trained on begins, in seconds.
    """

    key: str
    caption: str | None
    segments: int
    begins_s: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """The index's passport; `files` maps each file's name to the SHA-256 of its contents.

    shards: names of the files of rows, in the order of `songs`; fitted_songs: how many of the first songs the
    curvatures were fitted on, which later songs leave as they are.
    """

    model_digest: str
    segment_seconds: float
    sampling_rate: int
    config: IndexConfig
    songs: tuple[IndexedSong, ...]
    shards: tuple[str, ...]
    fitted_songs: int
    files: dict[str, str]

    @property
    def index_digest(self) -> str:
        """SHA-256 of everything that the manifest says, the files' own checksums included."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the manifest into `folder`, whole or not at all."""
        content = {"format": FORMAT, "index_digest": self.index_digest, **self._content()}
        partial = folder / f"{NAME}.partial"
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(folder / NAME)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest in `folder`. Raises IndexMismatch when it is absent, edited or of another format."""
        try:
            content = json.loads((folder / NAME).read_text())
            if content["format"] != FORMAT:
                raise IndexMismatch(f"the index in {folder} is of format {content['format']}, not {FORMAT}")
            manifest = cls._from_json(content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexMismatch(f"the index manifest in {folder} cannot be read: {error!r}") from error
        if content.get("index_digest") != manifest.index_digest:
            raise IndexMismatch(f"the index manifest in {folder} does not match its own digest")
        return manifest

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> "Manifest":
        return cls(
            model_digest=content["model_digest"],
            segment_seconds=content["segment_seconds"],
            sampling_rate=content["sampling_rate"],
            config=IndexConfig.from_json(content["config"]),
            songs=tuple(IndexedSong(**song) for song in content["songs"]),
            shards=tuple(content["shards"]),
            fitted_songs=content["fitted_songs"],
            files=content["files"],
        )

    def _content(self) -> dict[str, Any]:
        return asdict(self) | {"catalogue_digest": catalogue_digest(song.key for song in self.songs)}


def catalogue_digest(keys: Iterable[str]) -> str:
    """Return the SHA-256 that stands for a set of song keys, whatever their order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
