"""Which songs of an index share a file, also after songs were added."""

from dataclasses import dataclass

from worker.manifest import IndexConfig, IndexMismatch, Manifest
from worker.training import TrainingSet

ROWS = "rows-"
FORGOTTEN = "forgotten-"
Span = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """Which songs share a file: shards of rows, and generations of songs that came together; fitted: the first ones."""

    shards: tuple[Span, ...]
    generations: tuple[Span, ...]
    fitted: int

    @classmethod
    def of(cls, training: TrainingSet, config: IndexConfig, earlier: Manifest | None) -> "Plan":
        """Plan a new index, or the growth of `earlier`, whose files stay as they are.

        Raises IndexMismatch where the songs of `earlier` are not the first of the training set.
        """
        total = len(training.songs)
        if earlier is None:
            return cls(_shards(0, total, config), ((0, total),), total)
        known = len(earlier.songs)
        if [song.key for song in training.songs[:known]] != [song.key for song in earlier.songs]:
            raise IndexMismatch("the index is of other songs: new songs come after the present ones")
        shards = tuple(span(name) for name in earlier.shards)
        generations = tuple(sorted(span(name) for name in earlier.files if name.startswith(FORGOTTEN)))
        if total > known:
            shards, generations = (*shards, *_shards(known, total, config)), (*generations, (known, total))
        return cls(shards, generations, earlier.fitted_songs)


def _shards(first: int, last: int, config: IndexConfig) -> tuple[Span, ...]:
    size = config.songs_per_shard
    return tuple((at, min(at + size, last)) for at in range(first, last, size))


def file_name(prefix: str, songs: Span) -> str:
    """Return the name of the file about `songs`, from the first to before the last."""
    return f"{prefix}{songs[0]:06d}-{songs[1]:06d}.safetensors"


def span(name: str) -> Span:
    """Return which songs the file `name` is about."""
    first, last = name.removesuffix(".safetensors").split("-")[1:]
    return int(first), int(last)
