"""A stored upload becomes ranked rows: decoded, encoded, its gradient taken, the catalogue scanned, songs ranked."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch

from app.audio import Limits, decode
from app.errors import DecoderFailed
from bench.scale.floors import Floor, as_json, floor, rows_seconds
from bench.scale.subjects import PROMPT, Subject
from bench.scale.timing import seconds as seconds_of
from bench.scale.timing import settle, summary
from worker.attribution.gradients import gradients_each
from worker.attribution.replay import rows_of
from worker.engine import Choices, Engine, Query, long_lived
from worker.index import row_requests
from worker.methods import GROUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.scale.plan import Plan
    from worker.attribution.gradients import Request
    from worker.attribution.types import Segments
    from worker.index import Index

_LONG_S = 30.0
LIMITS = Limits(0.5, 3600.0, 8, 4000, 192_000, 1 << 31, 60.0)


class Uploads:
    """Stored tracks, as the service keeps them: FLAC files in a folder, decoded as the service does."""

    def __init__(self, subject: Subject, seconds: float, count: int, seed: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rootnote-scale-")
        self.paths = [Path(self._folder.name) / f"{number}.flac" for number in range(count)]
        for number, path in enumerate(self.paths):
            soundfile.write(path, subject.audio(seconds, seed + number), subject.model.form.rate, format="FLAC")
        self.isolated = _isolated(self.paths[0])

    def query(self, number: int) -> Query:
        """Decode one."""
        path = self.paths[number % len(self.paths)]
        if self.isolated:
            made = decode(path, LIMITS)
            return Query(made.samples, made.rate, PROMPT)
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return Query(np.ascontiguousarray(samples.T), rate, PROMPT)


def _isolated(path: Path) -> bool:
    """Say whether the decoding process of the service starts here: it sees installed packages alone."""
    try:
        decode(path, LIMITS)
    except DecoderFailed:
        return False
    return True


def answers(engine: Engine, uploads: Uploads, count: int, warmup: int) -> dict[str, Any]:
    """Time `count` queries one after another from the stored file to the ranked rows, and their stages."""
    taken: list[float] = []
    stages: dict[str, list[float]] = {}
    for number in range(warmup + count):
        began = time.perf_counter()
        query = uploads.query(number)
        decoded = time.perf_counter() - began
        ranking = engine.attribute(query, _nobody)
        settle(engine.model.device)
        if number >= warmup:
            taken.append(time.perf_counter() - began)
            for name, spent in {"decoding": decoded, **ranking.timings}.items():
                stages.setdefault(name, []).append(spent)
    return {**summary(taken), "stages_p50_s": {name: round(median(each), 6) for name, each in stages.items()}}


def query_part(subject: Subject, index: Index, plan: Plan, seconds: float, counts: Sequence[int]) -> dict[str, Any]:
    """Time queries without and with the finite-step check, `counts` of each; the second may be 0."""
    windows = subject.windows(seconds)
    uploads = Uploads(subject, seconds, 8 if seconds < _LONG_S else 2, plan.seed)
    found: dict[str, Any] = {
        "track_s": seconds,
        "windows": windows,
        "weights": subject.weights(),
        "batch": subject.batch,
        "catalogue_segments": len(index),
        "decoder": "the service's process" if uploads.isolated else "soundfile in this process",
    }
    long_lived()
    for name, count in zip(("ranked", "ranked_and_checked"), counts, strict=True):
        if count:
            engine = Engine(subject.model, index, choices=Choices(subject.batch, check=name != "ranked"))
            engine._bench.fast = subject.fast  # one copy of the model is enough
            found[name] = answers(engine, uploads, count, 2 if count > 1 else 0)
    return found


def registered_part(folder: Path, plan: Plan) -> dict[str, Any]:
    """Time queries of a registered model with its own index on the CPU, both directions of the check included."""
    engine = Engine.load(folder, "cpu")
    uploads = Uploads(Subject(engine.model, 16), plan.track_s, 2, plan.seed)
    found = answers(engine, uploads, min(plan.queries, 5), 1)
    config = asdict(engine.index.config)
    return {"track_s": plan.track_s, "threads": torch.get_num_threads(), **found, "config": config}


def recorded_part(subject: Subject, plan: Plan, made: Floor) -> dict[str, Any]:
    """Compare the rows of one window as they come with those replayed from a CUDA graph: bits, seconds, floor.

    Elsewhere than on a GPU there is nothing to record.
    """
    if subject.device.type != "cuda":
        return {"recorded": False}
    segments, requests = subject.segments(1, plan.seed), row_requests(plan.config, subject.batch)
    rows_of(subject.fast, subject.segments(1, plan.seed + 1), requests, GROUPS, subject.recorded)
    eager = gradients_each(subject.fast, segments, requests, GROUPS)
    again = rows_of(subject.fast, segments, requests, GROUPS, subject.recorded)
    plain = seconds_of(lambda: gradients_each(subject.fast, segments, requests, GROUPS), subject.device, plan.repeats)
    taken = rows_seconds(subject, plan, segments, GROUPS, 4 * plan.repeats)
    return {
        "recorded": True,
        "same_bits": int(torch.equal(eager.rows, again.rows) and torch.equal(eager.profile, again.profile)),
        "repeats_bit_for_bit": int(_repeats(subject, requests, segments)),
        "cosine_to_as_it_comes": float(torch.nn.functional.cosine_similarity(eager.rows, again.rows, dim=-1).min()),
        "as_it_comes": summary(plain),
        "gradient": summary(taken),
        "gradient_over_floor": round(median(taken) / made.seconds(1, plan.config), 4),
    }


def _repeats(subject: Subject, requests: tuple[Request, ...], segments: Segments) -> bool:
    """Say whether replayed rows are the same bits every time, other rows having been made between."""
    found = []
    for turn in range(8):
        rows_of(subject.fast, subject.segments(1 + turn % 3, turn), requests, GROUPS, subject.recorded)
        found.append(rows_of(subject.fast, segments, requests, GROUPS, subject.recorded).rows)
    return all(torch.equal(found[0], each) for each in found[1:])


def floor_part(subject: Subject, plan: Plan, batches: Sequence[int], seconds: float) -> dict[str, Any]:
    """Measure the floor, and a query's gradient over it."""
    windows = subject.windows(seconds)
    made: Floor = floor(subject, plan, batches)
    taken = rows_seconds(subject, plan, subject.segments(windows, plan.seed), GROUPS, min(plan.repeats, 3))
    least = made.seconds(windows, plan.config)
    return {
        "floor": as_json(made),
        "windows": windows,
        "gradient": summary(taken),
        "floor_s": round(least, 6),
        "floor_one_backward_s": round(made.one_backward(windows, plan.config), 6),
        "gradient_over_floor": round(median(taken) / least, 4),
    }


def _nobody(_stage: str, _done: float) -> None:
    """Hear nothing."""
