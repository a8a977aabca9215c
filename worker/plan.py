"""Which songs of an index share a file, also after songs were added, and which files can be made at the same time."""

from dataclasses import dataclass

from worker.manifest import IndexConfig, Manifest

ROWS = "rows-"
FORGOTTEN = "forgotten-"
UNRELATED = "unrelated-"
Span = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """The files to make: shards of rows over the songs from `known` to before `total`.

    fitted: how many of the first songs the curvatures are fitted on.
    """

    shards: tuple[Span, ...]
    known: int
    total: int
    fitted: int

    @classmethod
    def of(cls, songs: int, config: IndexConfig, earlier: Manifest | None = None) -> "Plan":
        """Plan an index of `songs` songs, or the growth of `earlier` by as many."""
        known = 0 if earlier is None else len(earlier.stored)
        total, size = known + songs, config.songs_per_shard
        shards = tuple((at, min(at + size, total)) for at in range(known, total, size))
        return cls(shards, known, total, total if earlier is None else earlier.fitted_songs)

    @property
    def grows(self) -> bool:
        """Whether songs are added to an index, whose fitted files stay."""
        return self.known > 0


def file_name(prefix: str, songs: Span) -> str:
    """Return the name of the file about `songs`, from the first to before the last."""
    return f"{prefix}{songs[0]:06d}-{songs[1]:06d}.safetensors"


def span(name: str) -> Span:
    """Return which songs the file `name` is about."""
    first, last = name.removesuffix(".safetensors").split("-")[1:]
    return int(first), int(last)
