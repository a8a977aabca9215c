"""Which songs each retrained model is trained on, all pure functions of seeds."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.starter.songs import split

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HALVES, ARTIST_HALVES, SHORT = 128, 48, 48
SEEDS = (1, 2)
FULL_SEEDS = (11, 12, 13, 14, 15, 16)
SHORTER = 0.5
SONGS = len(split().trained)
DOSES = (0, 1, 2, 4, 8, 16)
DOSED_EACH = 8


@dataclass(frozen=True)
class Job:
    """One retraining: its family, the number of its subset, its seed, its songs (copies repeated), relative length."""

    family: str
    mask: int
    seed: int
    songs: tuple[int, ...]
    length: float = 1.0


def halves(count: int = HALVES, songs: int = SONGS) -> list[tuple[int, ...]]:
    """Random halves of the songs, each of its own seed."""
    return [tuple(sorted(_source("halves", n).sample(range(songs), songs // 2))) for n in range(count)]


def artist_halves(count: int = ARTIST_HALVES) -> list[tuple[int, ...]]:
    """Random halves of every artist's songs, so that artists are always there; of the whole, half is kept."""
    trained = split().trained
    by_artist: dict[str, list[int]] = defaultdict(list)
    for number, song in enumerate(trained):
        by_artist[song.artist].append(number)
    made = []
    for n in range(count):
        source = _source("artists", n)
        shuffled = [source.sample(group, len(group)) for group in by_artist.values()]
        kept = [song for group in shuffled for song in group[: len(group) // 2]]
        odd = [group[-1] for group in shuffled if len(group) % 2]
        made.append(tuple(sorted(kept + source.sample(odd, len(trained) // 2 - len(kept)))))
    return made


def doses(model: int, songs: int = SONGS) -> tuple[int, ...]:
    """Return how often each song is trained on in dosed model `model`: `DOSED_EACH` songs a dose, the others once."""
    picked = _source("doses", model).sample(range(songs), DOSED_EACH * len(DOSES))
    copies = [1] * songs
    for place, song in enumerate(picked):
        copies[song] = DOSES[place // DOSED_EACH]
    return tuple(copies)


def jobs(families: Iterable[str], removals: Path | None = None) -> list[Job]:
    """Every retraining of the named families, in the order in which they are most useful."""
    known = {
        "full": lambda: [Job("full", 0, seed, tuple(range(SONGS))) for seed in FULL_SEEDS],
        "halves": lambda: [Job("halves", n, s, kept) for s in SEEDS for n, kept in enumerate(halves())],
        "artists": lambda: [Job("artists", n, 1, kept) for n, kept in enumerate(artist_halves())],
        "short": lambda: [
            Job("short", n, 1, kept, SHORTER) for n, kept in enumerate(halves()[-SHORT:], HALVES - SHORT)
        ],
        "removals": lambda: _removals(removals),
    }
    return [job for family in families for job in known[family]()]


def _removals(path: Path | None) -> list[Job]:
    """The groups of songs named in a file, each left out under as many seeds of the full models as it asks for."""
    if path is None:
        raise ValueError("removals need the file that names their groups")
    groups = {group["mask"]: group for group in json.loads(path.read_text())}
    return [
        Job("removals", mask, seed, tuple(sorted(set(range(SONGS)) - set(group["songs"]))))
        for place, seed in enumerate(FULL_SEEDS)
        for mask, group in groups.items()
        if place < group["seeds"]
    ]


def _source(purpose: str, number: int) -> random.Random:
    return random.Random(f"{purpose} {number}")  # noqa: S311
