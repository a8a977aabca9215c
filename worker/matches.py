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


class Numbers(Protocol):
    """A number for every kept segment, there or made when asked for."""

    @property
    def device(self) -> torch.device:
        """Where places are expected."""
        ...

    def __getitem__(self, places: Tensor) -> Tensor:
        """Return the numbers of the segments at `places` [p]: [p]."""
        ...


class Fits(Protocol):
    """Scores of every kept segment, and the track's window that each fits best."""

    @property
    def scores(self) -> Numbers:
        """Of every kept segment."""
        ...

    @property
    def window(self) -> Numbers:
        """Of the track, for every kept segment."""
        ...


def best_segments(index: Index, scores: Numbers, songs: Sequence[int], most: int) -> list[list[int]]:
    """Return the numbers of every song's highest-scoring segments, at most `most`, the highest first."""
    places, counts = _segments(index, songs)
    found = scores[places.to(scores.device)].cpu()
    runs = zip(torch.split(places, counts), torch.split(found, counts), strict=True)
    return [own[torch.argsort(its, descending=True, stable=True)[:most]].tolist() for own, its in runs]


def matches_of(index: Index, found: Fits, songs: Sequence[int], track_starts: Sequence[float]) -> Matches:
    """Return the best segments of every song in `songs`, beside the window of the track that each fits best."""
    chosen = best_segments(index, found.scores, songs, _MATCHES)
    places = torch.tensor([at for own in chosen for at in own])
    kept = (found.scores, found.window, index.shard.starts)
    told = zip(*(numbers[places.to(numbers.device)].tolist() for numbers in kept), strict=True)
    facts = dict(zip(places.tolist(), told, strict=True))
    return {
        song: tuple(_match(index, song, at, facts[at], track_starts) for at in own)
        for song, own in zip(songs, chosen, strict=True)
    }


def _match(index: Index, song: int, at: int, facts: tuple[float, int, float], track_starts: Sequence[float]) -> Match:
    """Return the match of the kept segment numbered `at`, of its score, its window and its start."""
    score, window, start = facts
    return Match(
        segment=at - index.segments_of(song).start,
        song_start_s=round(index.manifest.songs[song].begins_s + start, 3),
        track_start_s=round(track_starts[window], 3),
        seconds=round(index.manifest.segment_seconds, 3),
        score=score,
    )


def _segments(index: Index, songs: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Return the numbers of the songs' segments, song after song, and how many each has."""
    own = [index.segments_of(song) for song in songs]
    places = torch.cat([torch.arange(each.start, each.stop) for each in own])
    return places, [each.stop - each.start for each in own]


def twins(index: Index, songs: Sequence[int]) -> list[list[str]]:
    """Return groups of keys among `songs` whose rows nearly coincide: one such song hides the removal of another."""
    places, counts = _segments(index, songs)
    means = torch.stack([rows.mean(0) for rows in torch.split(index.rows(places), counts)])
    alike = torch.nn.functional.normalize(means, dim=1)
    near = (alike @ alike.mT > _TWIN_COSINE).tolist()
    groups: list[set[int]] = []
    for at, row in enumerate(near):
        linked = {other for other, close in enumerate(row) if close} | {at}
        joined = [group for group in groups if group & linked]
        groups = [group for group in groups if not group & linked] + [linked.union(*joined)]
    return [[index.manifest.songs[songs[at]].key for at in sorted(group)] for group in groups if len(group) > 1]
