"""The training set as an index sees it: songs, their captions, and the latents of the segments trained on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from worker.attribution.types import Segments


@dataclass(frozen=True)
class TrainingSong:
    """A song: its key in the catalogue, and the caption that it was trained under (None: the null condition).

    begins_s: where in the recording the part that was trained on begins, in seconds.
    """

    key: str
    caption: str | None
    begins_s: float = 0.0


@dataclass(frozen=True)
class TrainingSet:
    """Songs and their segments, song after song.

    latents: [s, c, f] float32; mask: [s, f], 1 where there is music; song: position in `songs` of each segment's song
    [s]; weight: how often training drew the segment, relatively [s]; starts, totals: the segment's begin and its
    song's length in seconds [s]. Raises ValueError when lengths differ, segments are out of order or a key is
    named twice.
    """

    songs: tuple[TrainingSong, ...]
    latents: Tensor
    mask: Tensor
    song: Tensor
    weight: Tensor
    starts: Tensor
    totals: Tensor

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, f.name)) for f in fields(self) if f.name != "songs"}
        if len(lengths) != 1:
            raise ValueError(f"a training set has one row a segment, not {sorted(lengths)}")
        if not torch.equal(torch.unique(self.song), torch.arange(len(self.songs))) or bool(
            (self.song.diff() < 0).any()
        ):
            raise ValueError("every song of a training set has its segments, in the order of the songs")
        if len({song.key for song in self.songs}) != len(self.songs):
            raise ValueError("a training set names every song once")

    def __len__(self) -> int:
        return len(self.latents)

    @classmethod
    def of(cls, songs: Sequence[TrainingSong], segments: Sequence[tuple[Segments, Tensor, float]]) -> "TrainingSet":
        """Join each song's (segments, starts [s] in seconds, total seconds), every segment drawn equally often."""
        counts = torch.tensor([len(part) for part, _, _ in segments])
        return cls(
            songs=tuple(songs),
            latents=torch.cat([part.latents for part, _, _ in segments]),
            mask=torch.cat([part.mask for part, _, _ in segments]),
            song=torch.arange(len(songs)).repeat_interleave(counts),
            weight=torch.ones(int(counts.sum())),
            starts=torch.cat([starts for _, starts, _ in segments]),
            totals=torch.tensor([total for _, _, total in segments]).repeat_interleave(counts),
        )

    def part(self, first: int, last: int) -> "TrainingSet":
        """Return the songs `first` to before `last` with their segments, songs counted from 0 again."""
        kept = (self.song >= first) & (self.song < last)
        tensors = {f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name != "songs"}
        tensors["song"] = tensors["song"] - first
        return TrainingSet(self.songs[first:last], **tensors)

    def every(self, step: int) -> "TrainingSet":
        """Return every `step`-th song with its segments, songs counted from 0 again."""
        kept = self.song % step == 0
        tensors = {f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name != "songs"}
        tensors["song"] = tensors["song"] // step
        return TrainingSet(self.songs[::step], **tensors)

    def save(self, path: Path) -> None:
        """Write the set as one safetensors file."""
        tensors = {f.name: getattr(self, f.name).contiguous() for f in fields(self) if f.name != "songs"}
        save_file(
            tensors,
            path,
            metadata={"songs": json.dumps([[song.key, song.caption, song.begins_s] for song in self.songs])},
        )

    @classmethod
    def load(cls, path: Path) -> "TrainingSet":
        """Read what `save` wrote."""
        with safe_open(path, framework="pt") as file:
            songs = json.loads(file.metadata()["songs"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        return cls(tuple(TrainingSong(*facts) for facts in songs), **tensors)
