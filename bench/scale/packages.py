"""What public packages take for the same model, segments and draws: traker and dattri, by their own code.

Both keep one projected gradient of the loss a segment, in float32; ours two of other measures, in a byte a number.
Needs `pip install traker dattri` beside the project.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from bench.faithfulness.packages.common import Cost, Settings, Work, plain_arithmetic
from bench.scale.floors import rows_seconds
from bench.scale.subjects import PROMPT, Subject, from_folder, from_shape
from worker.methods import GROUPS

if TYPE_CHECKING:
    from bench.scale.plan import Plan

_SEGMENTS, _QUERIES, _BATCH = 48, 4, 4


def packages_part(plan: Plan) -> dict[str, Any]:
    """Time the rows of a few songs and queries by every package, and by ours in the same process."""
    made = from_folder(plan.starter, plan.device, plan.batch) if plan.starter else None
    subject = made or from_shape(plan.small, plan.device, plan.batch, plan.seed)
    count = min(_SEGMENTS, plan.built)
    found = {"ours": ours(subject, plan, count)}
    work = Work(subject.model, subject.segments(count, plan.seed), torch.arange(count) // 4,
                subject.segments(_QUERIES, plan.seed + 1))  # fmt: skip
    settings = Settings(plan.device, plan.config.draws, _BATCH, (plan.config.dim,), (1.0,))
    for name, cost in costs(work, settings).items():
        found[name] = told(cost, count, plan)
    return {
        "prompt": PROMPT,
        "segments": count,
        "queries": _QUERIES,
        "draws": plan.config.draws,
        "dim": plan.config.dim,
        "without": "a scan of a catalogue: the packages are asked about these segments alone",
        "found": found,
    }


def costs(work: Work, settings: Settings) -> dict[str, Cost]:
    """Return what each package took for its training set and for a query."""
    from bench.faithfulness.packages.dattri_run import Dattri  # the packages are no part of the project
    from bench.faithfulness.packages.traker_run import Trak

    with plain_arithmetic():
        return {
            "traker": Trak(work, settings, settings.dims[0], settings.dampings[0]).run().cost,
            "dattri": next(iter(Dattri(work, settings).traks(settings.dims[0]))).cost,
        }


def ours(subject: Subject, plan: Plan, count: int) -> dict[str, float]:
    """Return what our rows of as many segments take, and of a query of one window; everything warm."""
    built = min(rows_seconds(subject, plan, subject.segments(count, plan.seed), 1, 2))
    asked = min(rows_seconds(subject, plan, subject.segments(1, plan.seed + 1), GROUPS, 3))
    kept = len(plan.config.measures) * (plan.config.dim * plan.config.bits // 8 + 4)
    return told(Cost(built, asked, kept), count, plan)


def told(cost: Cost, count: int, plan: Plan) -> dict[str, float]:
    """Return a cost a song of the catalogue and a query of one window."""
    facts = asdict(cost)
    return {
        "build_s_a_song": round(facts["index_s"] / count * plan.per_song, 6),
        "bytes_a_song": facts["bytes_per_segment"] * plan.per_song,
        "query_s": round(facts["query_s"], 6),
    }
