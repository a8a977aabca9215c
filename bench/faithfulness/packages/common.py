"""What the adapters of public packages share: the work folder, one segment's loss, songs from segments, results.

WORK holds pipeline/, training.safetensors (`worker.training.TrainingSet`), queries.json and queries.safetensors. Scores
go to WORK/scores-packages.safetensors, method → [q, songs], and costs to WORK/costs-packages.json, where those of
earlier runs stay.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from worker.attribution.influence import by_song
from worker.attribution.measure import Measure, Probe, exact_float32, measured
from worker.attribution.noise import Grid
from worker.attribution.types import Conditioning, Model, Params, Segments
from worker.diffusion.stable_audio import StableAudio, load
from worker.manifest import IndexConfig
from worker.training import TrainingSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
SCORES, COSTS = "scores-packages.safetensors", "costs-packages.json"
FIXED = "time_proj.weight"  # random Fourier frequencies, which training leaves as they are


@dataclass(frozen=True)
class Work:
    """What is asked: the model, its training segments with the song of each [n], and the queries."""

    model: StableAudio
    training: Segments
    song: Tensor
    queries: Segments

    @staticmethod
    def load(folder: Path, device: str) -> Work:
        """Read `folder`; segments stay on the CPU. Queries are told to begin at 0 s and to last one window."""
        model = load(folder / "pipeline", device)
        known = TrainingSet.load(folder / "training.safetensors")
        captions = [known.songs[number].caption for number in known.song.tolist()]
        cond = model.condition(captions, known.starts, known.totals)
        rows = json.loads((folder / "queries.json").read_text())
        latents = load_file(folder / "queries.safetensors")["latents"].float()
        length = torch.full((len(rows),), model.form.seconds)
        asked = model.condition([row["prompt"] for row in rows], torch.zeros_like(length), length)
        whole = torch.ones(len(rows), latents.shape[2])
        return Work(model, Segments(known.latents, known.mask, cond), known.song, Segments(latents, whole, asked))

    @property
    def songs(self) -> int:
        """How many songs there are."""
        return int(self.song.max()) + 1

    @property
    def learned(self) -> list[str]:
        """The names of the denoiser's weights that training changes."""
        return [name for name, _ in self.model.module.named_parameters() if not name.endswith(FIXED)]

    @property
    def size(self) -> int:
        """How many numbers those weights are."""
        named = dict(self.model.module.named_parameters())
        return sum(named[name].numel() for name in self.learned)


Row = tuple[Tensor, Tensor, Tensor, Tensor]


def tensors(segments: Segments) -> Row:
    """Return latents, mask, cross-attention tokens and global tokens, as data loaders of the packages take them."""
    return segments.latents, segments.mask, segments.cond.cross, segments.cond.globals_


def segment_loss(model: Model, params: Params, row: Sequence[Tensor], probe: Probe) -> Tensor:
    """Return the measure of one segment, or the mean over several, over the draws of `probe.grid`: a scalar.

    `row` is what `tensors` names, with or without a leading axis of segments; `params` stand in for weights by name.
    """
    latents, mask, cross, globals_ = row
    latents, mask = latents.reshape(-1, *latents.shape[-2:]), mask.reshape(-1, mask.shape[-1])
    cross, globals_ = (x.reshape(-1, *x.shape[-2:]) for x in (cross, globals_))
    cond = Conditioning(cross, torch.ones_like(cross[..., 0]), globals_)
    return measured(model, params, Segments(latents, mask, cond), probe).mean()


def song_scores(scores: Tensor, song: Tensor, songs: int) -> Tensor:
    """Return the sum over each song's segments of the packages' scores [n, q]: [q, songs] float32.

    Raises ValueError where a score is not finite.
    """
    if not bool(scores.isfinite().all()):
        raise ValueError("a score is not finite: the package divided by a singular matrix; dampen it")
    return by_song(scores.mT, song, torch.ones(len(song)), songs).float()


@dataclass(frozen=True)
class Cost:
    """What a method took: seconds for the training set, once; seconds a query; bytes kept a training segment."""

    index_s: float
    query_s: float
    bytes_per_segment: int


@dataclass(frozen=True)
class Found:
    """One variant of a method, named `method,setting=value,…`: its song scores [q, songs] and its cost."""

    name: str
    scores: Tensor
    cost: Cost


def add(folder: Path, found: Found) -> None:
    """Write a variant's scores and cost beside those that are there."""
    scores = load_file(folder / SCORES) if (folder / SCORES).exists() else {}
    costs = json.loads((folder / COSTS).read_text()) if (folder / COSTS).exists() else {}
    save_file(scores | {found.name: found.scores.cpu().contiguous()}, folder / SCORES)
    (folder / COSTS).write_text(json.dumps(costs | {found.name: asdict(found.cost)}, indent=1) + "\n")
    print(f"{found.name}: index {found.cost.index_s:.1f} s, query {1000 * found.cost.query_s:.1f} ms", flush=True)


def timed(device: str, action: Callable[[], T]) -> tuple[T, float]:
    """Return what `action` returns and the seconds that it took, the device's queue emptied before and after."""
    _wait(device)
    begun = time.perf_counter()
    result = action()
    _wait(device)
    return result, time.perf_counter() - begun


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Attention as products and softmax, which transforms of functions know, and float32 products in float32."""
    with exact_float32(), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        yield


@dataclass(frozen=True)
class Settings:
    """How an adapter runs: noise draws a segment, segments a batch, and which variants it tries.

    dims: projected dimensions; dampings: relative to a mean eigenvalue; methods: those of the adapter to run.
    """

    device: str
    draws: int
    batch: int
    dims: tuple[int, ...]
    dampings: tuple[float, ...]
    methods: tuple[str, ...] = ()

    def probe(self) -> Probe:
        """The loss over the first draws of the grid that an index uses."""
        return Probe(Measure.LOSS, Grid(IndexConfig().grid_seed, self.draws))


def asked(description: str | None, methods: Sequence[str]) -> tuple[Path, Settings]:
    """Read the command line: WORK, and how to run which of `methods`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("work", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--batch", type=int, default=105, help="segments whose gradients are taken together")
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--dampings", type=float, nargs="+", default=[0.01, 0.1, 1.0, 10.0])
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    told = vars(parser.parse_args())
    return told.pop("work"), Settings(**{n: tuple(v) if isinstance(v, list) else v for n, v in told.items()})


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
