"""The humble rivals: what can be said without a gradient. All are [q, songs], higher for more.

A held-out query's artist and source are its recording's. A generated track has none, so the five songs whose captions
share most words with its prompt vote for theirs (ties at the fifth place share what is left of the five votes), and a
song's score is the votes for its artist or source. What does not look at the query tells how much of the raw LDS is
shared by all queries: the recording's length, the mean of a method's scores of the other queries, and a value of every
song learnt by ridge regression from the mean losses of the tuning queries over the tuning subsets.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.faithfulness.judge.lds import SEED_MARK
from bench.faithfulness.judge.truth import PANELS, panel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.faithfulness.judge.truth import Family, Query

VOTERS = 5
RANDOM_SEEDS = 5
LEARNT = "song_values"
DAMPINGS = tuple(10.0**power for power in range(-3, 5))


@dataclass(frozen=True)
class Song:
    """The facts of a recording that the rivals use; `source` is the package that it came in."""

    key: str
    artist: str
    source: str
    caption: str
    duration_s: float


def songs(path: Path) -> tuple[Song, ...]:
    """Read songs.csv or held_out.csv, in order."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(
            Song(row["key"], row["artist"], row["package"], row["caption"], float(row["duration_s"]))
            for row in csv.DictReader(file)
        )


@dataclass(frozen=True)
class Catalogue:
    """Songs trained on, and recordings held out for ever."""

    trained: tuple[Song, ...]
    held_out: tuple[Song, ...]

    def origin(self, query: Query) -> Song:
        """Return the held-out recording of `query`."""
        return next(song for song in self.held_out if song.key == query.song)


def words(text: str) -> frozenset[str]:
    """Return the distinct words of a prompt or caption, in lower case."""
    return frozenset(text.lower().split())


def shared_words(asked: Sequence[str], captions: Sequence[str], rare: bool = False) -> Tensor:
    """Return how many distinct words prompt and caption share, each worth 1, or log(songs / songs with it): [q, n]."""
    known = [words(caption) for caption in captions]
    count = Counter(word for caption in known for word in caption)
    worth = {word: log(len(known) / n) if rare else 1.0 for word, n in count.items()}
    rows = [[sum(worth[word] for word in sorted(words(text) & caption)) for caption in known] for text in asked]
    return torch.tensor(rows, dtype=torch.float64)


def votes(similarity: Tensor, voters: int = VOTERS) -> Tensor:
    """Return each song's part of the `voters` votes: 1 above the last place, ties there share the rest: [q, n]."""
    last = similarity.topk(voters, dim=1).values[:, -1:]
    above, level = similarity > last, similarity == last
    left = voters - above.sum(1, keepdim=True).double()
    return above + level * left / level.sum(1, keepdim=True)


def same(queries: Sequence[Query], catalogue: Catalogue, trait: str) -> Tensor:
    """Return the votes for every song's `trait` ("artist" or "source"); a held-out query's own trait has them all."""
    traits = [getattr(song, trait) for song in catalogue.trained]
    elected = votes(shared_words([q.prompt or "" for q in queries], [s.caption for s in catalogue.trained]))
    rows = []
    for query, ballot in zip(queries, elected.tolist(), strict=True):
        held: Counter[str] = Counter()
        if query.kind == "held_out":
            held[getattr(catalogue.origin(query), trait)] = VOTERS
        else:
            for name, part in zip(traits, ballot, strict=True):
                held[name] += part
        rows.append([held[name] for name in traits])
    return torch.tensor(rows, dtype=torch.float64)


def captions_alike(queries: Sequence[Query], catalogue: Catalogue, rare: bool = False) -> Tensor:
    """Return the words that the query's prompt and the song's caption share.

    A query under the null condition has no prompt: its recording's caption, which a rival may know, stands in.
    """
    asked = [q.prompt or (catalogue.origin(q).caption if q.kind == "held_out" else "") for q in queries]
    return shared_words(asked, [song.caption for song in catalogue.trained], rare)


def mean_of_others(scores: Tensor) -> Tensor:
    """Return for every query the mean of the other queries' scores [q, songs], each row first set to unit length."""
    rows = torch.nn.functional.normalize(scores.double(), dim=1)
    asked = rows.isfinite().all(1)
    return (rows[asked].sum(0) - rows) / (asked.sum() - 1)


def song_values(family: Family) -> Tensor:
    """Return how much each song lowers the mean loss: ridge on the kept songs [songs], damped by leave-one-out.

    `family` holds tuning queries and subsets alone.
    """
    kept = family.kept.double()
    kept = kept - kept.mean(0)
    gain = -family.losses.double().mean((0, 2))
    gain = gain - gain.mean()
    return kept.mT @ ridge(kept @ kept.mT, gain)


def ridge(kernel: Tensor, target: Tensor) -> Tensor:
    """Return α = (K + λ tr(K)/m I)⁻¹ y, [m], for the λ of `DAMPINGS` with the least leave-one-out error."""
    values, vectors = torch.linalg.eigh(kernel)
    best, chosen = float("inf"), torch.zeros_like(target)
    for damping in DAMPINGS:
        inverse = (vectors / (values.clamp(min=0) + damping * values.mean())) @ vectors.mT
        alpha = inverse @ target
        error = float((alpha / inverse.diagonal()).square().sum())
        if error < best:
            best, chosen = error, alpha
    return chosen


def rivals(queries: Sequence[Query], catalogue: Catalogue) -> dict[str, Tensor]:
    """Return the scores [q, songs] of every humble rival that learns nothing."""
    shape = (len(queries), len(catalogue.trained))
    durations = torch.tensor([song.duration_s for song in catalogue.trained], dtype=torch.float64)
    found = {
        "same_artist": same(queries, catalogue, "artist"),
        "same_source": same(queries, catalogue, "source"),
        "shared_words": captions_alike(queries, catalogue),
        "shared_rare_words": captions_alike(queries, catalogue, rare=True),
        "duration": durations.expand(shape),
    }
    for seed in range(RANDOM_SEEDS):
        found[f"random@seed{seed}"] = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return found


def agnostic(queries: tuple[Query, ...], tuning: Family | None, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what does not look at the query: the song values of every panel, and the means of others of `scores`.

    `tuning` holds the tuning subsets and all queries; values are learnt from its tuning queries of the same panel.
    """
    found = {_of_others(name): torch.zeros_like(matrix, dtype=torch.float64) for name, matrix in scores.items()}
    if tuning is not None:
        found[LEARNT] = torch.zeros(len(queries), tuning.kept.shape[1], dtype=torch.float64)
    for name in PANELS:
        rows = panel(queries, name)
        if not len(rows):
            continue
        for method, matrix in scores.items():
            found[_of_others(method)][rows] = mean_of_others(matrix[rows])
        learnable = panel(queries, name, "tune")
        if tuning is not None and len(learnable):
            found[LEARNT][rows] = song_values(tuning.queries(learnable))
    return found


def _of_others(name: str) -> str:
    method, mark, seed = name.partition(SEED_MARK)
    return f"mean_of_others({method}){mark}{seed}"
