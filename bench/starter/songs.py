"""Which songs the starter is trained on, and where their audio comes from."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

CATALOGUE = Path(__file__).parent / "catalogue.csv"
RELATED = ("enhanced", "revisited")


@dataclass(frozen=True)
class Song:
    """One recording of the catalogue: a Debian package, a path inside it, and who made it under which licence."""

    package: str
    path: str
    title: str
    artist: str
    licence: str
    duration_s: float

    @property
    def key(self) -> str:
        """A stable, readable identifier: package and title, lower case, no spaces."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.package} {self.title}".lower()).strip("-")

    def file(self, folder: Path) -> Path:
        """Where `bench.starter.fetch` unpacked the audio below `folder`."""
        return folder / self.package / self.path


def catalogue(source: Path = CATALOGUE) -> list[Song]:
    """Every known song, in the order of the catalogue file."""
    with source.open(newline="") as file:
        return [
            Song(*(row[name] for name in ("package", "path", "title", "artist", "licence")), float(row["duration_s"]))
            for row in csv.DictReader(file)
        ]


def training_songs(count: int = 60, shortest_s: float = 50.0) -> list[Song]:
    """Pick `count` songs, taking turns over artists within packages so that no artist dominates.

    Remakes of another song are left out, as are songs shorter than `shortest_s`.
    """
    groups: dict[tuple[str, str], list[Song]] = defaultdict(list)
    for song in catalogue():
        if song.duration_s >= shortest_s and not any(mark in song.title.lower() for mark in RELATED):
            groups[song.package, song.artist].append(song)
    longest = max(map(len, groups.values()))
    turns = [group[turn] for turn in range(longest) for group in groups.values() if turn < len(group)]
    return turns[:count]
