"""The engine: a resident pipeline and its index; a waveform goes in, a ranking of the training songs comes out."""

import csv
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import structlog
import torch

from worker.attribution.provenance import UNKNOWN
from worker.attribution.types import silent
from worker.calibration import Calibration
from worker.diffusion.half import HalfBlocks
from worker.diffusion.layout import digest
from worker.diffusion.stable_audio import StableAudio, load
from worker.diffusion.windows import LEAST_MUSIC, Windows, cut
from worker.finding import Finder, here
from worker.forgetting import Asked, Counterfactual, Forgetter, compared
from worker.index import Expected, Index
from worker.matches import Match
from worker.methods import Bench, Report, Stages, by_index, by_unlearning
from worker.ranking import Meaning, Ranking, SongInfluence, ranked
from worker.refusals import EngineError, NotFinite, NotInTrainingSet, SilentAudio, TooShort, UnknownMethod
from worker.versions import versions

if TYPE_CHECKING:
    from worker.attribution.replay import Kept

__all__ = ["Choices", "Engine", "Match", "Query", "Ranking", "SongInfluence"]

_LEAST_SECONDS = 1.0
_METHODS = {"index": by_index, "unlearn": by_unlearning}
_BATCHES = ((10_000_000, 512), (100_000_000, 128))
_LARGE_BATCH = 16
_BESIDE_A_GPU = 4
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Query:
    """A track: samples [ch, n] float32 at `rate` Hz, the prompt that it was generated under (None: not known)."""

    samples: np.ndarray
    rate: int
    prompt: str | None = None
    method: Literal["index", "unlearn"] | str = "index"


@dataclass(frozen=True)
class Choices:
    """How queries are answered, not what the answer is.

    batch: samples in one pass, None for what suits the device; check: whether rankings by the index are checked by
    finite steps; scatter: makes what scans the index.
    """

    batch: int | None = None
    check: bool = True
    scatter: Callable[[Index], Finder] = here


_USUAL = Choices()


class Engine:
    """One registered model, in memory; answers one query at a time and is the same after every one of them."""

    def __init__(
        self,
        model: StableAudio,
        index: Index,
        calibration: Calibration | None = None,
        choices: Choices = _USUAL,
    ) -> None:
        """Keep what queries need."""
        self.model, self.index, self.calibration = model, index, calibration
        self.model_digest = index.manifest.model_digest
        self.index_digest = index.manifest.index_digest
        recorded: Kept | None = {} if model.device.type == "cuda" else None
        self._bench = Bench(
            model=model,
            index=index,
            find=choices.scatter(index),
            batch=choices.batch or batch_on(model),
            fast=fast_copy(model),
            check=choices.check,
            recorded=recorded,
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "auto",
        version: str | None = None,
        choices: Choices = _USUAL,
    ) -> "Engine":
        """Load the registered model in `folder`: pipeline/, songs.csv, index/ and, if there, calibration.json.

        device: "cpu", "cuda", or "auto" for the best there is; version: digest of the index, None for the newest. On a
        GPU rows are made in bfloat16 and the index lies there. Raises UnsupportedPipeline and IndexMismatch, OSError
        where files are missing.
        """
        began = perf_counter()
        use_cores(chosen_device(device))
        model = load(folder / "pipeline", chosen_device(device))
        expected = Expected(digest(folder / "pipeline"), song_keys(folder / "songs.csv"))
        index = Index.open(folder / "index", expected, model.device, version)
        engine = cls(model, index, Calibration.read(folder, index.manifest), choices)
        warm = index.background  # fits the curvature too, so that the first query is as fast as the others
        if engine.model.device.type == "cuda":
            engine.warm()
        long_lived()
        log.info(
            "engine loaded",
            folder=str(folder),
            device=str(model.device),
            songs=len(index.manifest.songs),
            segments=len(index),
            background=len(warm.scores),
            calibrated=engine.calibration is not None,
            model_digest=engine.model_digest,
            index_digest=engine.index_digest,
            seconds=round(perf_counter() - began, 2),
        )
        return engine

    def warm(self) -> None:
        """Make the rows of a window of silence: kernels are compiled and passes recorded before the first query."""
        form = self.model.form
        windows = Windows(torch.zeros(1, form.channels, form.samples), torch.ones(1, form.frames), torch.zeros(1), 1.0)
        self._bench.rows(self.model.encode(windows, None), silent)

    def attribute(self, query: Query, report: Report) -> Ranking:
        """Rank all songs by their influence on the track.

        `report(stage, progress)` is called at least at every batch, with stages encoding, unlearning, scoring, ranking
        and progress 0 to 1; what it raises passes through and leaves the engine as it was. Raises EngineError.
        """
        if query.method not in _METHODS:
            raise UnknownMethod(f"there is no method {query.method}; there are {', '.join(_METHODS)}")
        stages = Stages(report)
        with stages("encoding") as progress:
            windows = self._windows(query)
            track = self.model.encode(windows, query.prompt, progress)
            meaning = self._meaning(query, windows)
        evidence = _METHODS[query.method](self._bench, track, stages)
        with stages("ranking"):
            ranking = ranked(self.index, evidence, windows.starts.tolist(), meaning)
        return replace(ranking, timings=stages.seconds, details=ranking.details | self._details(query, windows))

    def forget(self, query: Query, asked: Asked, report: Report) -> Counterfactual:
        """Forget a song in a copy of the weights, measure the track, and make it again; beside it, a control song.

        `query.prompt` is what the track is measured under, `asked.prompt` what it is made again from. `report` as in
        `attribute`, with stages encoding, forgetting, measuring, generating. Raises EngineError.
        """
        unknown = {asked.song, asked.control or asked.song} - set(self.index.keys)
        if unknown:
            raise NotInTrainingSet(f"the index of the model knows no song {', '.join(sorted(unknown))}")
        stages = Stages(report)
        with stages("encoding") as progress:
            windows = self._windows(query)
            track = self.model.encode(windows, query.prompt, progress)
        asked = replace(asked, seconds=min(windows.total, self.model.form.seconds))
        found = Forgetter(self.model, self.index, self._bench.batch).counterfactual(track, asked, stages)
        return replace(found, likeness=compared(windows.audio[0].numpy(), found.baseline))

    def _meaning(self, query: Query, windows: Windows) -> Meaning:
        if self.calibration is None:
            return Meaning(UNKNOWN)
        provenance = self.calibration.provenance(self.model.pipeline.vae, windows)
        return Meaning(provenance, self.calibration.scale_of(query.method))

    def _windows(self, query: Query) -> Windows:
        samples = torch.from_numpy(np.array(query.samples, dtype=np.float32, order="C"))
        if samples.ndim != 2 or query.rate <= 0:
            raise EngineError(f"a track is [channels, samples] at a positive rate, not {list(samples.shape)}")
        least = min(_LEAST_SECONDS, LEAST_MUSIC * self.model.form.seconds)
        if samples.shape[1] < least * query.rate or not len(samples):
            raise TooShort(f"the track has {samples.shape[1] / query.rate:.2f} s; at least {least:.2f} s are needed")
        if not bool(samples.isfinite().all()):
            raise NotFinite("the track holds samples that are not numbers")
        windows = cut(samples, query.rate, self.model.form)
        if not bool(windows.mask.any()):
            raise SilentAudio("the track is silent throughout")
        return windows

    def _details(self, query: Query, windows: Windows) -> dict[str, object]:
        config = self.index.config
        return {
            "method": query.method,
            "prompted": query.prompt is not None,
            "windows": len(windows),
            "grid_seed": config.grid_seed,
            "projection_seed": config.projection_seed,
            "step": config.step,
            "device": str(self.model.device),
            "model_digest": self.model_digest,
            "index_digest": self.index_digest,
            "versions": versions(),
        }


def long_lived() -> None:
    """Leave what is in memory now out of later collections: the songs of an index would halt a query for a while.

    What was left out before and is no longer needed goes.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def chosen_device(name: str) -> str:
    """Return `name`, or for "auto" the GPU where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def batch_on(model: StableAudio) -> int:
    """Return how many samples share a pass of `model` unless something else is asked for.

    On a GPU the more the smaller the model is: its kernels are then over sooner than they are launched.
    """
    if model.device.type != "cuda":
        return 16
    weights = sum(p.numel() for p in model.module.parameters())
    return next((batch for most, batch in _BATCHES if weights <= most), _LARGE_BATCH)


def fast_copy(model: StableAudio) -> HalfBlocks | None:
    """Return the copy of `model` that rows are made with on a GPU; None elsewhere."""
    return HalfBlocks(model) if model.device.type == "cuda" else None


def use_cores(device: str) -> None:
    """Let torch compute on all cores: by itself it counts hyper-threads by pairs. OMP_NUM_THREADS says otherwise.

    Beside a GPU only on a few: what is left to do is so little that many threads wait for one another.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        torch.set_num_threads(cores if device == "cpu" else min(cores, _BESIDE_A_GPU))


def song_keys(path: Path) -> list[str]:
    """Return the keys that a catalogue file (CSV with a column `key`) names."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row["key"] for row in csv.DictReader(file)]
