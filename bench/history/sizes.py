"""How large the measured database is, and what its rows are called: everything follows from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

TENANT = "default"
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
PAUSE = timedelta(seconds=30)
MODELS = 3
WRITERS, LABELS = 5_000, 500


@dataclass(frozen=True)
class Sizes:
    """Rows of each table; every `songs_per_track * tracks / hot`-th track has the song that is asked for."""

    songs: int = 1_000_000
    tracks: int = 1_000_000
    songs_per_track: int = 10
    hot: int = 100_000
    seed: int = 0

    @property
    def influences(self) -> int:
        """Rows of the table of influences."""
        return self.tracks * self.songs_per_track

    @property
    def every(self) -> int:
        """The hot song is in one of so many tracks."""
        return self.tracks // self.hot


def song_id(number: int) -> str:
    """The id of a song."""
    return f"01940000-0000-7000-8000-{number:012x}"


def track_id(number: int) -> str:
    """The id of an attribution; ids sort by time."""
    return f"01950000-0000-7000-8000-{number:012x}"


def model_id(number: int) -> str:
    """The id of a model."""
    return f"01930000-0000-7000-8000-{number:012x}"


def holder_id(number: int) -> str:
    """The id of a holder of rights: first WRITERS that compose, then LABELS."""
    return f"01920000-0000-7000-8000-{number:012x}"


def moment(track: int) -> datetime:
    """When an attribution was made and ended."""
    return FIRST + track * PAUSE
