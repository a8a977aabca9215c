"""From a setting to files of inner products and projected rows, one measure at a time to spare memory.

On the reference model (n = 735, q = 264, B = 4, 2.9M numbers a row) the rows of one measure take 48 GB; files take
14 MiB (gram), 5 MiB (projected) and 8 MiB (rows) a measure.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.faithfulness.das import das_scores, jacobian_products
from bench.faithfulness.gradient_methods import diagonal_first_order, projected_name
from bench.faithfulness.gradients_draws import Autocast, Draws
from bench.faithfulness.gradients_gram import Gram, Grams, Kernel, gram, grouped_grams
from bench.faithfulness.gradients_rows import Rows, band_rows, hashed, slices_of, spans_of
from bench.faithfulness.unlearning_methods import GRID_SEED, Forgetting, diagonal_curvature
from worker.attribution.influence import by_song
from worker.attribution.measure import Measure, exact_float32
from worker.attribution.noise import Grid
from worker.attribution.projection import SJLT
from worker.shards import Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.faithfulness.setting import Setting

DAMPINGS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class GradientJob:
    """What is computed of gradients.

    bands: how many of equal noise; draws, query_draws: of a segment and of a query; half: passes of `Autocast`;
    dim, nonzeros, seeds: of the projections; keep_rows: write the projected rows of the first seed in bytes;
    groups: write the inner products of every part of every block; directions: of DAS, a divisor of query_draws.
    """

    measures: tuple[Measure, ...] = tuple(Measure)
    bands: int = 4
    draws: int = 64
    query_draws: int = 256
    half: bool = False
    rows: Rows = field(default_factory=Rows)
    dim: int = 2048
    nonzeros: int = 4
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    keep_rows: bool = False
    groups: bool = False
    directions: int = 32


class Clock:
    """Seconds by what they were spent on, the device's queue waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.last = device, {}, time.perf_counter()

    def lap(self, name: str) -> None:
        """Say that the time since the last lap went into `name`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self.last, 3)
        self.last = now
        print(f"{name}: {self.seconds[name]} s", flush=True)

    def save(self, path: Path, job: GradientJob) -> None:
        """Write the seconds beside the settings."""
        path.write_text(json.dumps({"seconds": self.seconds, "job": asdict(job)}, indent=1) + "\n")


@dataclass(frozen=True)
class Whole:
    """Band rows of the training segments [B, n, p] and of the queries [B, q, p]."""

    songs: Tensor
    queries: Tensor


class Gradients:
    """The draws, layout and projections of one setting."""

    def __init__(self, setting: Setting, job: GradientJob) -> None:
        self.setting, self.job, self.clock = setting, job, Clock(setting.device)
        self.model = Autocast(setting.model) if job.half else setting.model
        self.spans = spans_of(setting.model, job.rows.weights)
        self.draws = self._draws(job.draws)
        self.query_draws = self._draws(job.query_draws)
        self.slices = {}

    def whole(self, measure: Measure) -> Whole:
        """Compute the band rows of `measure`."""
        setting, job = self.setting, self.job
        songs = band_rows(self.model, setting.training, measure, self.draws.bands(job.bands), job.rows)
        self.clock.lap(f"{measure} rows of segments")
        queries = band_rows(self.model, setting.queries, measure, self.query_draws.bands(job.bands), job.rows)
        self.clock.lap(f"{measure} rows of queries")
        return Whole(songs, queries)

    def write(self, out: Path) -> None:
        """Compute and write everything, measure by measure."""
        for measure in self.job.measures:
            whole = self.whole(measure)
            self._grams({str(measure): gram(whole.songs, whole.queries, self.spans)}).save(
                out / f"gram-{measure}.safetensors"
            )
            self.clock.lap(f"{measure} inner products")
            if self.job.groups:
                found = grouped_grams(whole.songs, whole.queries, self.spans)
                named = {f"{measure}/{group}": one for group, one in found.items()}
                self._grams(named).save(out / f"groups-{measure}.safetensors")
                self.clock.lap(f"{measure} inner products by part")
            self._project(measure, whole, out)
            if measure is Measure.LOSS:
                save_file(self._diagonal(whole), out / "scores-diagonal.safetensors")
                self.clock.lap("diagonal first order")
        self.clock.save(out / "timing-grams.json", self.job)

    def _project(self, measure: Measure, whole: Whole, out: Path) -> None:
        named = {}
        for seed in self.job.seeds:
            slices = self._slices(seed)
            songs, queries = (hashed(x, slices, self.spans) for x in (whole.songs, whole.queries))
            named[projected_name(measure, self.job.dim, seed)] = gram(songs, queries).mean()
            if self.job.keep_rows and seed == self.job.seeds[0]:
                save_file(_in_bytes(songs, queries), out / f"rows-{measure}.safetensors")
        self._grams(named).save(out / f"projected-{measure}.safetensors")
        self.clock.lap(f"{measure} projections")

    def _slices(self, seed: int) -> dict:
        if seed not in self.slices:
            projection = SJLT(seed, self.job.dim, self.job.nonzeros)
            self.slices[seed] = slices_of(projection, self.spans, self.setting.device)
        return self.slices[seed]

    def _diagonal(self, whole: Whole) -> dict[str, Tensor]:
        fisher = diagonal_curvature(self.setting, Forgetting(weights=self.job.rows.weights, damping=1.0)).diagonal
        flat = torch.cat([fisher[name].flatten() for name in self.spans])
        songs, queries = whole.songs.mean(0), whole.queries.mean(0)
        with exact_float32():
            return {
                f"diagonal-first-order@{damping:g}": songs_of(
                    self.setting, diagonal_first_order(songs, queries, flat, damping)
                )
                for damping in DAMPINGS
            }

    def _grams(self, named: dict[str, Gram]) -> Grams:
        return Grams(named, self.setting.song, self.setting.weight, self.setting.songs)

    def _draws(self, count: int) -> Draws:
        return Draws.of(Grid(GRID_SEED, count), self.setting.shape, self.setting.device)

    def das(self, measure: Measure) -> dict[str, Tensor]:
        """Return what `das_scores_of` needs: products [q, R, n], and the inner products of the training gradients.

        Those gradients are of `measure`: of the loss for DAS itself.
        """
        bands = self.draws.bands(self.job.bands)
        rows = band_rows(self.model, self.setting.training, measure, bands, self.job.rows).mean(0)
        self.clock.lap(f"{measure} rows of segments")
        plan = (self.query_draws.sorted(), self.job.directions, self.job.rows)
        products = jacobian_products(self.model, self.setting.queries, rows, self.spans, plan)
        self.clock.lap("products of queries")
        songs = gram(rows[None], rows[None, :1], self.spans).kernel().songs
        size = products.abs().amax(2, keepdim=True).clamp(min=1e-30)
        return {"products": (products / size).half().cpu(), "size": size.cpu(), "songs": songs.float().cpu()}


def das_scores_of(
    kept: dict[str, Tensor], song: Tensor, damping: float, name: str = "das"
) -> Iterator[tuple[str, Tensor]]:
    """Yield DAS [q, songs] as the paper has it, a sum over segments, and with each whole song's change squared."""
    kernel = Kernel(kept["songs"].double(), torch.empty(0), torch.empty(0))
    products = kept["products"].double() * kept["size"]
    every = das_scores(products, kernel, damping)
    count = int(song.max()) + 1
    yield f"{name}@{damping:g}", by_song(every, song, torch.ones(len(song)), count).float()
    yield f"{name}-song@{damping:g}", das_scores(products, kernel, damping, song).float()


def songs_of(setting: Setting, scores: Tensor) -> Tensor:
    """Return song scores [q, songs] float32 on the CPU from segment scores [q, n]."""
    return by_song(scores, setting.song, setting.weight, setting.songs).float()


def _in_bytes(songs: Tensor, queries: Tensor) -> dict[str, Tensor]:
    song, query = Bytes.of(songs), Bytes.of(queries)
    return {"songs": song.codes, "song_scale": song.scale, "queries": query.codes, "query_scale": query.scale}
