"""An index that several processes hold: each some of its files, one after another, of which it answers questions.

A song's rows lie in one file and its sum depends on no other song's rows, so the answers of all parts, put side by
side, are what one process would have found.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from worker.manifest import IndexMismatch, Manifest
from worker.scan import Scan, Scans, scan_of
from worker.shards import Shard, fingerprint, read
from worker.sums import SongSums
from worker.verifying import verify

_KEPT = 4


@dataclass(frozen=True)
class Question:
    """Solved vectors [q, m, k]; songs' sums are asked for the first `summed` of them, and the scores at `places` [p].

    A place is the number of a segment within the part.
    """

    solved: Tensor
    summed: int
    places: Tensor

    def packed(self) -> bytes:
        """Return the question as it travels: a safetensors file."""
        return _packed({"solved": self.solved, "summed": torch.tensor(self.summed), "places": self.places})

    @classmethod
    def unpacked(cls, sent: bytes) -> "Question":
        """Read what `packed` gave. Raises SafetensorError or KeyError for anything else."""
        named = load(sent)
        return cls(named["solved"], int(named["summed"]), named["places"])


@dataclass(frozen=True)
class Answer:
    """What a part says: its songs' sums [summed, songs] float64, from `first_song` on; scores [q, p] float32."""

    first_song: int
    sums: Tensor
    scores: Tensor

    def packed(self) -> bytes:
        """Return the answer as it travels: a safetensors file."""
        return _packed({"first_song": torch.tensor(self.first_song), "sums": self.sums, "scores": self.scores})

    @classmethod
    def unpacked(cls, sent: bytes) -> "Answer":
        """Read what `packed` gave. Raises SafetensorError or KeyError for anything else."""
        named = load(sent)
        return cls(int(named["first_song"]), named["sums"], named["scores"])


def _packed(named: dict[str, Tensor]) -> bytes:
    return bytes(save({name: tensor.contiguous() for name, tensor in named.items()}))


def share(files: int, number: int, of: int) -> slice:
    """Return which of an index's files the part `number` of `of` parts is. Raises IndexMismatch for too many parts."""
    if not 1 <= of <= files:
        raise IndexMismatch(f"an index of {files} files cannot be held in {of} parts")
    return slice(number * files // of, (number + 1) * files // of)


@dataclass(frozen=True, eq=False)
class Part:
    """Some files of an index, ready to be scanned; remembers the scans of the last few questions."""

    scan: Scan | Scans
    sums: SongSums
    first_song: int
    _last: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)

    @classmethod
    def open(cls, manifest: Manifest, folder: Path, number: int, of: int, device: torch.device) -> "Part":
        """Open the files of the part `number` of `of`, counted from 0; they alone need be in `folder`.

        Raises IndexMismatch when they were changed, and for more parts than files.
        """
        names = manifest.shards[share(len(manifest.shards), number, of)]
        verify(folder, {name: manifest.files[name] for name in names})
        shard = Shard.stacked([read(folder / name) for name in names])
        first, last = int(shard.song.min()), int(shard.song.max()) + 1
        sums = SongSums(shard.song - first, shard.weight, last - first, device)
        return cls(scan_of(shard.rows, manifest.config.row_scale, device), sums, first)

    def answer(self, question: Question) -> Answer:
        """Scan the part, or look up an earlier scan for the same vectors, and return what was asked for."""
        scores = self._scores(question.solved)
        sums = self.sums.of(scores[: question.summed]).cpu()
        return Answer(self.first_song, sums, scores[:, question.places.to(scores.device)].cpu())

    def _scores(self, solved: Tensor) -> Tensor:
        asked = fingerprint(solved)
        found = self._last.pop(asked, None)
        self._last[asked] = self.scan.scores(solved) if found is None else found
        while len(self._last) > _KEPT:
            self._last.popitem(last=False)
        return self._last[asked]
