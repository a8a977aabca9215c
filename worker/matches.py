"""Where in a song and where in the track: the segments that speak for a song, and songs that hide each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from worker.index import Index

_MATCHES = 3
_TWIN_COSINE = 0.95


@dataclass(frozen=True)
class Match:
    """A segment of a song and the part of the track that it fits best.

    segment: its number within the song's kept segments; song_start_s, track_start_s: seconds from either's begin;
    seconds: its length; score: the segment's own score.
    """

    segment: int
    song_start_s: float
    track_start_s: float
    seconds: float
    score: float


Matches = dict[int, tuple[Match, ...]]


class Fits(Protocol):
    """Scores of every kept segment [n], and the track's window that each fits best [n]."""

    @property
    def scores(self) -> Tensor:
        """Of every kept segment."""
        ...

    @property
    def window(self) -> Tensor:
        """Of the track, for every kept segment."""
        ...


def best_segments(index: Index, scores: Tensor, song: int, most: int) -> list[int]:
    """Return the numbers of a song's highest-scoring segments, at most `most`, the highest first."""
    own = index.segments_of(song)
    return [own.start + at for at in torch.argsort(scores[own], descending=True, stable=True)[:most].tolist()]


def matches_of(index: Index, found: Fits, songs: Sequence[int], track_starts: Sequence[float]) -> Matches:
    """Return the best segments of every song in `songs`, beside the window of the track that each fits best."""
    seconds = index.manifest.segment_seconds
    return {
        song: tuple(
            Match(
                segment=at - index.segments_of(song).start,
                song_start_s=round(index.manifest.songs[song].begins_s + float(index.shard.starts[at]), 3),
                track_start_s=round(track_starts[int(found.window[at])], 3),
                seconds=round(seconds, 3),
                score=float(found.scores[at]),
            )
            for at in best_segments(index, found.scores, song, _MATCHES)
        )
        for song in songs
    }


def twins(index: Index, songs: Sequence[int]) -> list[list[str]]:
    """Return groups of keys among `songs` whose rows nearly coincide: one such song hides the removal of another."""
    means = torch.stack([index.rows(index.segments_of(song)).mean(0) for song in songs])
    alike = torch.nn.functional.normalize(means, dim=1)
    near = (alike @ alike.mT > _TWIN_COSINE).tolist()
    groups: list[set[int]] = []
    for at, row in enumerate(near):
        linked = {other for other, close in enumerate(row) if close} | {at}
        joined = [group for group in groups if group & linked]
        groups = [group for group in groups if not group & linked] + [linked.union(*joined)]
    return [[index.manifest.songs[songs[at]].key for at in sorted(group)] for group in groups if len(group) > 1]
