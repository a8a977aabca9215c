"""What a longer track costs: rows, scan and ranking by the number of windows."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from bench.scale.floors import rows_seconds
from bench.scale.timing import seconds
from worker.methods import GROUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from bench.scale.plan import Plan
    from bench.scale.subjects import Subject
    from worker.index import Index


def lengths_part(subject: Subject, index: Index, plan: Plan, windows: Sequence[int]) -> dict[str, Any]:
    """Time the rows of tracks of so many windows, and the scan for the track, its groups of draws and its windows."""
    found = []
    for count in windows:
        taken = rows_seconds(subject, plan, subject.segments(count, plan.seed), GROUPS, 2)
        solved = _queries(index, 1 + GROUPS + count)
        scan = seconds(lambda solved=solved: index.scan(solved), subject.device, 2)  # type: ignore[misc]
        found.append(
            {
                "windows": count,
                "track_s": round(count * subject.model.form.seconds, 3),
                "gradient_s": round(median(taken), 6),
                "scan_s": round(median(scan), 6),
            }
        )
    return {"tracks": found}


def _queries(index: Index, count: int) -> torch.Tensor:
    return index.background_rows.floats().flatten(1).repeat(-(-count // len(index.background_rows.codes)), 1)[:count]
