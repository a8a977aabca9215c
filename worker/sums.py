"""From scores of segments to sums of songs: weighted by how often training drew each segment, in a fixed order."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from worker import onepass
from worker.attribution.influence import by_song


@dataclass(frozen=True, eq=False)
class SongSums:
    """How the segments of some songs add up. song: number of each segment's song [n], from 0; weight: its draws [n].

    songs: how many there are; device: where sums are made.
    """

    song: Tensor
    weight: Tensor
    songs: int
    device: torch.device

    def of(self, scores: Tensor) -> Tensor:
        """Return the sums [..., songs] of segments' `scores` [..., n], in float64 and in the order of the segments.

        None of them depends on another song's segments.
        """
        if not self._in_order:
            return by_song(scores, self.song, self.weight, self.songs)
        if onepass.sums_serve(scores):
            flat = scores.reshape(-1, scores.shape[-1])
            return onepass.sums(flat, self._weight, self._begins, self._most).reshape(*scores.shape[:-1], self.songs)
        weighted = (scores.to(self._weight).reshape(-1, scores.shape[-1]) * self._weight).mT.contiguous()
        sums = torch.segment_reduce(weighted, "sum", lengths=self._lengths, axis=0, unsafe=True)
        return sums.mT.reshape(*scores.shape[:-1], self.songs)

    @cached_property
    def _in_order(self) -> bool:
        return bool((self.song.diff() >= 0).all()) and len(self._counts) == self.songs

    @cached_property
    def _counts(self) -> Tensor:
        return torch.bincount(self.song, minlength=self.songs)

    @cached_property
    def _most(self) -> int:
        return int(self._counts.max())

    @cached_property
    def _weight(self) -> Tensor:
        return self.weight.double().to(self.device)

    @cached_property
    def _lengths(self) -> Tensor:
        return self._counts.to(self.device)

    @cached_property
    def _begins(self) -> Tensor:
        return torch.nn.functional.pad(self._counts.cumsum(0), (1, 0)).to(self.device)
