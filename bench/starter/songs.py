"""Which songs the starter is trained on, which it never sees, and where their audio comes from."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

CATALOGUE = Path(__file__).parent / "catalogue.csv"
RELATED = ("enhanced", "revisited", "sixtyfour", "track 3", "menu theme")
# Files of a minute and more whose music ends within half a minute.
MOSTLY_SILENT = ("You Lose...", "CoLoBoT Main Theme")
HELD_OUT = 34
SHORTEST_S = 31.5
SMALL_ARTIST = 4
SPLIT_SEED = 2311


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

    @property
    def related(self) -> bool:
        """Whether another song of the catalogue is a version of this one."""
        return any(mark in self.title.lower() for mark in RELATED)

    def file(self, folder: Path) -> Path:
        """Where `bench.starter.fetch` unpacked the audio below `folder`."""
        return folder / self.package / self.path


@dataclass(frozen=True)
class Split:
    """The catalogue in two: songs trained on, and songs held out for ever.

    new_artists: the artists, all of whose songs are held out; they make half of those.
    """

    trained: tuple[Song, ...]
    held_out: tuple[Song, ...]
    new_artists: frozenset[str]


def catalogue(source: Path = CATALOGUE) -> list[Song]:
    """Every known song, in the order of the catalogue file."""
    with source.open(newline="") as file:
        return [
            Song(*(row[name] for name in ("package", "path", "title", "artist", "licence")), float(row["duration_s"]))
            for row in csv.DictReader(file)
        ]


def split() -> Split:
    """Hold out `HELD_OUT` songs: half by artists with few songs, wholly; half by artists that are trained on too.

    Versions of one another stay in training together, what is too short to train on is held out, and what is mostly
    silent is neither.
    """
    songs = [song for song in catalogue() if song.title not in MOSTLY_SILENT]
    source = random.Random(SPLIT_SEED)  # noqa: S311
    counts = Counter(song.artist for song in songs)
    small = sorted(artist for artist, count in counts.items() if count <= SMALL_ARTIST)
    source.shuffle(small)
    new: set[str] = set()
    for artist in small:
        if sum(counts[a] for a in new) + counts[artist] <= HELD_OUT // 2:
            new.add(artist)
    out = [song for song in songs if song.artist in new or song.duration_s < SHORTEST_S]
    for artist, _ in counts.most_common(HELD_OUT - len(out)):
        out.append(source.choice([s for s in songs if s.artist == artist and s not in out and not s.related]))
    chosen = set(out)
    return Split(tuple(s for s in songs if s not in chosen), tuple(s for s in songs if s in chosen), frozenset(new))
