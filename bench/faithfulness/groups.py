"""Choose songs to leave out: `python -m bench.faithfulness.groups FOLDER removals.json` adds groups to a file of them.

FOLDER holds what `bench.faithfulness.collect` wrote. For generated tracks that no group was chosen for yet, each
method's five best songs are a group, and five songs by the same artists that no method ranks high (of others where the
artist has no more). The best song of the default method, and one by its artist, are groups of their own. For tuning
tracks only the default's: what an effect is calibrated on. `bench.faithfulness.retrain` leaves them out.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.faithfulness.judge.humble import songs
from bench.faithfulness.judge.truth import panel
from bench.faithfulness.judge.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

COMPARED = ("ours", "d-trak-v", "abu-ekfac", "mucs")
MATCHED = "artist_matched"
GROUP, BANNED = 5, 15
SEEDS = 2


@dataclass(frozen=True)
class Chooser:
    """Scores [q, songs] by method, the artist of every song."""

    scores: dict[str, Tensor]
    artists: tuple[str, ...]

    def best(self, method: str, query: int, count: int) -> list[int]:
        """Return the `count` best songs of a query by a method, the best first."""
        return self.scores[method][query].topk(count).indices.tolist()

    def matched(self, query: int, count: int) -> list[int]:
        """Return songs by the artists of the default's best that no compared method has among its first `BANNED`."""
        source = random.Random(f"matched {query} {count}")  # noqa: S311
        banned = {song for method in COMPARED for song in self.best(method, query, BANNED)}
        found: list[int] = []
        for song in self.best(COMPARED[0], query, count):
            free = [n for n in range(len(self.artists)) if n not in banned and n not in found]
            found.append(source.choice([n for n in free if self.artists[n] == self.artists[song]] or free))
        return found

    def tested(self, query: int) -> Iterator[dict[str, Any]]:
        """Yield the groups of a test query."""
        for method in COMPARED:
            yield _group(query, method, self.best(method, query, GROUP), SEEDS)
        yield _group(query, MATCHED, self.matched(query, GROUP), SEEDS)
        yield _group(query, COMPARED[0], self.best(COMPARED[0], query, 1), 1)
        yield _group(query, MATCHED, self.matched(query, 1), 1)

    def tuned(self, query: int) -> Iterator[dict[str, Any]]:
        """Yield the groups of a tuning query."""
        for count in (1, GROUP):
            yield _group(query, COMPARED[0], self.best(COMPARED[0], query, count), 1)


def _group(query: int, method: str, chosen: list[int], seeds: int) -> dict[str, Any]:
    return {"query": query, "method": method, "songs": chosen, "seeds": seeds}


def fresh(work: Work, split: str, asked: set[int], count: int) -> list[int]:
    """Return `count` generated queries of `split` that are not among `asked`, drawn at random."""
    left = [n for n in panel(work.queries, "generated", split).tolist() if n not in asked]
    return sorted(random.Random(f"removals {split}").sample(left, count))  # noqa: S311


def number_alike(groups: list[dict[str, Any]]) -> None:
    """Give every group without a number one; the same songs for the same query are one group, retrained once."""
    numbers = {(g["query"], frozenset(g["songs"])): g["mask"] for g in reversed(groups) if "mask" in g}
    free = max((g["mask"] for g in groups if "mask" in g), default=-1) + 1
    for group in groups:
        if "mask" not in group:
            group["mask"] = numbers.setdefault((group["query"], frozenset(group["songs"])), free)
            free += group["mask"] == free


def main() -> None:
    """Choose, number, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--test", type=int, default=12, help="how many test tracks")
    parser.add_argument("--tune", type=int, default=12, help="how many tuning tracks")
    options = parser.parse_args()
    work = Work(options.work)
    groups = json.loads(options.out.read_text()) if options.out.exists() else []
    known = {group["query"] for group in groups}
    first = {name: matrices[0] for name, matrices in work.methods.items() if name in COMPARED}
    chooser = Chooser(first, tuple(song.artist for song in songs(work.folder / "songs.csv")))
    for query in fresh(work, "tune", known, options.tune):
        groups += chooser.tuned(query)
    for query in fresh(work, "test", known, options.test):
        groups += chooser.tested(query)
    number_alike(groups)
    options.out.write_text("[\n" + ",\n".join(json.dumps(group) for group in groups) + "\n]\n")
    models = {group["mask"]: group["seeds"] for group in groups}
    print(f"{len(groups)} groups, {sum(models.values())} models")


if __name__ == "__main__":
    main()
