"""What a scan finds for a track's solved vectors: here, over all rows, or in parts that other processes hold."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from worker.index import Index
from worker.matches import Numbers
from worker.parts import Answer, Question, share
from worker.shards import lengths

Ask = Callable[[dict[int, Question]], dict[int, Answer]]
"""Puts a question to each of some parts, by their numbers."""


@dataclass(frozen=True)
class Found:
    """scores: of the kept segments for the first vector; sums: of the stored songs [summed, stored] float64.

    window: which of the vectors that were not summed each kept segment fits best.
    """

    scores: Numbers
    window: Numbers
    sums: Tensor


Finder = Callable[[Tensor, int], Found]
"""Takes solved vectors [q, m k], and for how many of them, the first, songs' sums are wanted."""


def here(index: Index) -> Finder:
    """Return what scans all rows of `index` in this process."""

    def find(solved: Tensor, summed: int) -> Found:
        scores = index.scan(solved)
        return Found(scores[0], scores[summed:].argmax(0), index.sums.of(scores[:summed]))

    return find


def scattered(index: Index, of: int, ask: Ask) -> Finder:
    """Return what has `of` parts of `index` scanned, each where it lies, and gathers what they say.

    Songs' sums come at once, scores of segments when a ranking wants them. Raises IndexMismatch for more parts than the
    index has files.
    """
    files = lengths(index.shard.rows)
    bounds = torch.tensor([0, *accumulate(sum(files[share(len(files), number, of)]) for number in range(of))])

    def find(solved: Tensor, summed: int) -> Found:
        vectors, nothing = index.parts(solved).cpu(), torch.empty(0, dtype=torch.long)
        answers = ask({number: Question(vectors, summed, nothing) for number in range(of)})
        sums = torch.zeros(summed, len(index.manifest.stored), dtype=torch.float64)
        for answer in answers.values():
            sums[:, answer.first_song : answer.first_song + answer.sums.shape[1]] = answer.sums
        gathered = _Gathered(vectors, bounds, ask)
        scores = _Wanted(gathered, index.device, lambda found: found[0])
        window = _Wanted(gathered, index.device, lambda found: found[summed:].argmax(0))
        return Found(scores, window, sums.to(index.device))

    return find


@dataclass(frozen=True, eq=False)
class _Gathered:
    """Scores [q] of those segments that were asked for, and the parts to ask for others; bounds: where each begins."""

    solved: Tensor
    bounds: Tensor
    ask: Ask
    known: dict[int, Tensor] = field(default_factory=dict)

    def at(self, places: Tensor) -> Tensor:
        """Return the scores [q, p] of the segments at `places` [p]."""
        wanted = places.tolist()
        missing = sorted({place for place in wanted if place not in self.known})
        if missing:
            self._learn(torch.tensor(missing))
        return torch.stack([self.known[place] for place in wanted], 1)

    def _learn(self, places: Tensor) -> None:
        parts = torch.bucketize(places, self.bounds[1:], right=True)
        own = {number: places[parts == number] for number in sorted(set(parts.tolist()))}
        asked = {number: Question(self.solved, 0, its - self.bounds[number]) for number, its in own.items()}
        for number, answer in self.ask(asked).items():
            self.known.update(zip(own[number].tolist(), answer.scores.unbind(1), strict=True))


@dataclass(frozen=True, eq=False)
class _Wanted:
    """Numbers of segments, made of their scores when asked for."""

    gathered: _Gathered
    device: torch.device
    made: Callable[[Tensor], Tensor]

    def __getitem__(self, places: Tensor) -> Tensor:
        return self.made(self.gathered.at(places.cpu())).to(self.device)
