"""Building rows on one GPU and on all there are, one process a GPU, beside the floor."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from bench import hardware
from bench.scale.floors import rows_seconds
from worker.shards import Bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.scale.floors import Floor
    from bench.scale.plan import Plan
    from bench.scale.subjects import Subject

_PATIENCE_S = 240.0
_FEW = 16


def build_part(subject: Subject, plan: Plan, made: Floor, segments: int) -> dict[str, Any]:
    """Time the rows of `segments` segments as a build makes them, and rounding them to bytes."""
    ready = subject.segments(segments, plan.seed)
    taken = median(rows_seconds(subject, plan, ready, 1, 1 if segments < _FEW else 3))
    rows = torch.randn(segments, len(plan.config.measures), plan.config.dim)
    began = time.perf_counter()
    Bytes.of(rows)
    rounding = time.perf_counter() - began
    return {
        "segments": segments,
        "segment_s": round((taken + rounding) / segments, 6),
        "floor_segment_s": round(made.seconds(1, plan.config), 6),
        "build_over_floor": round((taken + rounding) / made.seconds(segments, plan.config), 4),
    }


def spread_part(plan: Plan, gpus: int, words: list[str]) -> dict[str, Any]:
    """Build on one device and then on `gpus` at once, each in a process of its own: segments a second, and speedup."""
    rates = {count: _rate(plan, count, words) for count in (1, gpus)}
    return {
        "processes": gpus,
        "segments_a_second": {str(count): round(rate, 4) for count, rate in rates.items()},
        f"speedup_{gpus}": round(rates[gpus] / rates[1], 4),
    }


def _rate(plan: Plan, count: int, words: list[str]) -> float:
    """Return segments a second of `count` processes that begin together."""
    meeting = plan.out / f"spread-{count}"
    meeting.mkdir(parents=True, exist_ok=True)
    for left in meeting.iterdir():
        left.unlink()
    command = [sys.executable, "-m", "bench.scale", *words, "--out", str(plan.out), "--meeting", str(meeting)]
    started = [subprocess.Popen([*command, "--rank", str(rank)], cwd=hardware.ROOT) for rank in range(count)]
    try:
        _await(meeting, "ready-*", count, started)
        (meeting / "go").touch()
        _await(meeting, "done-*", count, started)
    finally:
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
    ends = [json.loads(path.read_text()) for path in meeting.glob("done-*")]
    span = max(end["ended"] for end in ends) - min(end["began"] for end in ends)
    return sum(end["segments"] for end in ends) / span


def work_beside(subject: Subject, plan: Plan, meeting: Path, rank: int, segments: int) -> None:
    """Be one of the processes: get warm, wait for the others, build, and write when."""
    ready = subject.segments(segments, plan.seed + rank)
    rows_seconds(subject, plan, ready[:1], 1, 1)
    (meeting / f"ready-{rank}").touch()
    _await(meeting, "go", 1)
    began = time.time()
    rows_seconds(subject, plan, ready, 1, 0)
    done = meeting / f"done-{rank}"
    draft = meeting / f"draft-{rank}"
    draft.write_text(json.dumps({"began": began, "ended": time.time(), "segments": segments}))
    draft.replace(done)


def _await(meeting: Path, pattern: str, count: int, started: Sequence[subprocess.Popen[bytes]] = ()) -> None:
    """Wait for `count` files; raises RuntimeError where a process of those `started` failed, and TimeoutError."""
    until = time.monotonic() + _PATIENCE_S
    while len(list(meeting.glob(pattern))) < count:
        if any(process.poll() for process in started):
            raise RuntimeError(f"a building process failed before {pattern}")
        if time.monotonic() > until:
            raise TimeoutError(f"no {count} of {pattern} in {meeting}")
        time.sleep(0.05)
