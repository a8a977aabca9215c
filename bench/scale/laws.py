"""What must hold on the device that is measured: rows, sketches and scans agree with the exact ones, and repeat."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cosine_similarity

from worker.attribution import fused
from worker.attribution.evaluate import spearman
from worker.attribution.gradients import gradients_each
from worker.attribution.influence import RowScale
from worker.attribution.measure import exact_float32
from worker.attribution.projection import SJLT
from worker.index import row_requests
from worker.methods import GROUPS
from worker.scan import Scan

if TYPE_CHECKING:
    from bench.scale.plan import Plan
    from bench.scale.subjects import Subject
    from worker.index import Index
    from worker.shards import Bytes

_SCANNED = 4096
_FEW = 16


def laws_part(subject: Subject, index: Index, plan: Plan) -> dict[str, Any]:
    """Compare on a few segments; a number under each law, 1 or 0 where it is yes or no."""
    segments = subject.segments(4, plan.seed)
    requests = row_requests(plan.config, subject.batch)
    before = {name: p.clone() for name, p in subject.model.module.state_dict().items()}
    rows = gradients_each(subject.fast, segments, requests, GROUPS).rows
    with exact_float32():
        exact = gradients_each(subject.model, segments, requests, GROUPS).rows
    again = gradients_each(subject.fast, segments, requests, GROUPS).rows
    other = gradients_each(subject.fast, segments, row_requests(plan.config, 24), GROUPS).rows
    after = subject.model.module.state_dict()
    some = replace(index.shard.rows, codes=index.shard.rows.codes[:_SCANNED], scale=index.shard.rows.scale[:_SCANNED])
    cpu = Scan.of(some, RowScale.UNIT, torch.device("cpu"))
    scores = [cpu.scores(index.parts(index.solved(made.mean(0)))) for made in (rows, exact, other)]
    return {
        "rows_cosine_to_float32": float(cosine_similarity(rows.mean(0), exact.mean(0), dim=-1).min()),
        "scores_spearman_to_float32": float(spearman(scores[0], scores[1]).min()),
        "scores_spearman_to_batch_24": float(spearman(scores[0], scores[2]).min()),
        "rows_repeat_bit_for_bit": int(torch.equal(rows, again)),
        "weights_bit_identical": int(all(torch.equal(before[name], after[name]) for name in before)),
        "sketch_error": _sketch_error(subject, plan),
        "scan_error": _scan_error(index, some, plan),
    }


def rows_part(subject: Subject, plan: Plan) -> dict[str, Any]:
    """Compare the rows of one segment over a few draws: with float32, with themselves, and at another batch size."""
    segments, config = subject.segments(1, plan.seed), replace(plan.config, draws=_FEW)
    requests = row_requests(config, subject.batch)
    rows, again = (gradients_each(subject.fast, segments, requests, GROUPS).rows for _ in range(2))
    other = gradients_each(subject.fast, segments, row_requests(config, _FEW // GROUPS), GROUPS).rows
    with exact_float32():
        exact = gradients_each(subject.model, segments, row_requests(config, _FEW // GROUPS), GROUPS).rows
    found = {"rows_cosine_to_float32": exact, "rows_cosine_to_another_batch": other}
    return {
        "draws": _FEW,
        "rows_repeat_bit_for_bit": int(torch.equal(rows, again)),
        **{name: float(cosine_similarity(rows.mean(0), x.mean(0), dim=-1).min()) for name, x in found.items()},
    }


def _sketch_error(subject: Subject, plan: Plan) -> float:
    """Return the largest difference of a sketch on the device from that on the CPU, of its largest number."""
    made = torch.Generator().manual_seed(plan.seed)
    gradient = torch.randn(3, 70_001, generator=made)
    found = []
    for device in (subject.device, torch.device("cpu")):
        one = SJLT(plan.config.projection_seed, plan.config.dim, plan.config.nonzeros).slice("law", 70_001, device)
        found.append(one.project(gradient.to(device)).cpu())
    return float((found[0] - found[1]).abs().max() / found[1].abs().max())


def _scan_error(index: Index, some: Bytes, plan: Plan) -> float:
    """Return the largest difference of a score on the device from that on the CPU, of the largest score."""
    make = torch.Generator().manual_seed(plan.seed)
    solved = torch.randn(3, len(plan.config.measures), plan.config.dim, generator=make)
    found = [Scan.of(some, RowScale.UNIT, d).scores(solved).cpu() for d in (index.device, torch.device("cpu"))]
    return float((found[0] - found[1]).abs().max() / found[1].abs().max())


def kernel_in_use(device: torch.device) -> bool:
    """Say whether sketches are made by the fused kernel on `device`."""
    return fused.serves(torch.empty(0, device=device))
