"""Scanning rows: several queries at once, at the catalogue's size and at others, resident and streamed."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from bench.scale.catalogue import random_codes
from bench.scale.timing import free, seconds, summary
from worker.attribution.influence import RowScale
from worker.scan import Scan, best
from worker.shards import Bytes

if TYPE_CHECKING:
    from bench.scale.plan import Plan
    from worker.index import Index

GIGABYTE = 1e9
TOP = 100


def scan_part(index: Index, plan: Plan) -> dict[str, Any]:
    """Scan the catalogue for one query and for several, with and without the best songs, resident and streamed."""
    device = index.device
    solved = _queries(plan, device)
    found: dict[str, Any] = {"segments": len(index), "row_bytes": plan.row_bytes, "queries": plan.together}
    found["index_gb"] = round(len(index) * plan.row_bytes / GIGABYTE, 4)
    found["index_gb_a_measure"] = round(found["index_gb"] / len(plan.config.measures), 4)
    found["resident"] = index.scanner.resident
    for name, queries in (("one", solved[:1]), ("together", solved)):
        found[name] = summary(seconds(partial(index.scanner.scores, queries), device, 4 * plan.repeats))
    joint = solved.flatten(1)
    found["together_with_best_songs"] = summary(seconds(lambda: _best_songs(index, joint), device, plan.repeats))
    streamed = Scan.of(index.shard.rows, RowScale.UNIT, device, room=0)
    found["four_bits"] = _four_bits(index, solved, plan)
    found["streamed"] = summary(seconds(partial(streamed.scores, solved), device, min(plan.repeats, 2)))
    return found


def _four_bits(index: Index, solved: torch.Tensor, plan: Plan) -> dict[str, Any]:
    """Scan as many random rows in four bits a number for all queries."""
    size = (len(plan.config.measures), len(index), plan.config.dim // 2)
    codes = torch.randint(0, 256, size, dtype=torch.uint8, device=index.device)
    scan = Scan(codes, torch.ones(len(index), size[0], device=index.device), index.device)
    taken = seconds(partial(scan.scores, solved), index.device, 4 * plan.repeats)
    gigabytes = round(codes.nbytes / GIGABYTE, 4)
    return {"index_gb": gigabytes, "index_gb_a_measure": round(gigabytes / size[0], 4), **summary(taken)}


def sweep_part(plan: Plan, device: torch.device) -> dict[str, Any]:
    """Scan catalogues of other sizes: segments → seconds of one query and of several at once."""
    solved, rows = _queries(plan, device), []
    for count in plan.catalogues:
        codes = random_codes(count, plan, device)
        kept = Bytes(codes, torch.full((1, 1, 1), 1e-3).expand(count, len(plan.config.measures), 1))
        scan = Scan.of(kept, RowScale.UNIT, device)
        one = seconds(partial(scan.scores, solved[:1]), device, plan.repeats)
        many = seconds(partial(scan.scores, solved), device, plan.repeats)
        rows.append({"segments": count, "one_s": median(one), "together_s": median(many), "bytes": codes.nbytes})
        del scan, kept, codes
        free(device)
    return {"queries": plan.together, "catalogues": rows}


def _queries(plan: Plan, device: torch.device) -> torch.Tensor:
    make = torch.Generator().manual_seed(plan.seed + 1)
    return torch.randn(plan.together, len(plan.config.measures), plan.config.dim, generator=make).to(device)


def _best_songs(index: Index, joint: torch.Tensor) -> list[torch.Tensor]:
    return [best(songs, TOP) for songs in index.song_scores(index.scan(joint))]
