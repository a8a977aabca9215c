"""What finite-step unlearning of the same catalogue would cost, and how many queries an hour a busy device answers."""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from bench.scale.timing import seconds, settle
from worker.attribution.measure import Probe, measured, values
from worker.attribution.noise import Grid, drawn
from worker.attribution.replay import rows_of
from worker.index import row_requests
from worker.methods import GROUPS
from worker.scan import best

if TYPE_CHECKING:
    from bench.scale.floors import Floor
    from bench.scale.plan import Plan
    from bench.scale.subjects import Subject
    from worker.index import Index


def finite_part(subject: Subject, plan: Plan) -> dict[str, Any]:
    """Measure a slice of the catalogue again after a step, as exactly as the service does and in half precision.

    Extrapolated: the whole catalogue, by the number of segments; what was measured before the step is taken as known.
    """
    segments, config = subject.segments(plan.slice_, plan.seed), plan.config
    probe = Probe(config.unlearn_measure, Grid(config.grid_seed, config.unlearn_draws), subject.batch)
    few = max(1, plan.slice_ // 16)
    exact = median(seconds(partial(values, subject.model, {}, segments[:few], probe), subject.device, 1)) / few
    half = median(seconds(partial(_passes, subject, segments, probe), subject.device, 2)) / plan.slice_
    return {
        "slice_segments": plan.slice_,
        "slice_segments_float32": few,
        "draws": config.unlearn_draws,
        "segment_s": {"float32": round(exact, 6), "bfloat16": round(half, 6)},
        "extrapolated": {
            "catalogue_segments": plan.segments,
            "query_s": {"float32": round(exact * plan.segments, 1), "bfloat16": round(half * plan.segments, 1)},
        },
    }


def _passes(subject: Subject, segments: Any, probe: Probe) -> None:
    """Run the forward passes of finite steps at full batches, as `values` does, in half precision on a GPU."""
    shape = (segments.latents.shape[1], segments.latents.shape[2])
    ready = Probe(probe.measure, drawn(probe.grid, shape, subject.device), probe.batch)
    together = max(1, probe.batch // probe.grid.draws)
    with torch.no_grad():
        for start in range(0, len(segments), together):
            measured(subject.fast, {}, segments[start : start + together], ready)


def busy_part(subject: Subject, index: Index, plan: Plan, made: Floor, queries: int) -> dict[str, Any]:
    """Answer `queries` waiting tracks of one window each: rows of many at once, one scan, the best songs of each.

    Every track is scanned for with all its draws and with each group of them. Encoding, the finite-step check and the
    rows of the answer are left out, as they are of the floor.
    """
    requests = row_requests(plan.config, subject.batch)
    waiting = subject.segments(queries, plan.seed)

    def work() -> None:
        rows = rows_of(subject.fast, waiting, requests, GROUPS, subject.recorded).rows
        solved = index.solved(torch.cat([rows.mean(0, keepdim=True), rows]).flatten(0, 1))
        songs = index.song_scores(index.scan(solved))
        for one in songs[:queries]:
            best(one, 100).tolist()

    work()
    settle(subject.device)
    began = time.perf_counter()
    work()
    settle(subject.device)
    a_query = (time.perf_counter() - began) / queries
    least = made.seconds(1, plan.config)
    return {
        "queries": queries,
        "windows_a_query": 1,
        "query_s": round(a_query, 6),
        "queries_per_gpu_hour": round(3600 / a_query, 1),
        "floor_queries_per_gpu_hour": round(3600 / least, 1),
        "of_floor": round(least / a_query, 4),
    }
