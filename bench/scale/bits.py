"""What rows of four bits cost in faithfulness: the committed queries scored with the starter's index in three ways.

The index's rows lie in whole bytes. `four`: they are rounded once more and the curvature stays, as `rootnote index
requantise` does. `fresh`: the curvature is made of the rounded rows, as in a new index of four bits. Retrained models
judge all; tuning queries and subsets decide, the others report.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.faithfulness.again import opened  # first: it makes torchaudio importable

# isort: split
import torch
from safetensors.torch import load_file

from bench.faithfulness.judge.truth import Family, panel
from bench.faithfulness.judge.truth import queries as queries_of
from bench.faithfulness.setting import query_segments
from worker.attribution.evaluate import lds, paired_difference, spearman
from worker.index import gradient_rows, row_requests
from worker.shards import Bytes

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from worker.attribution.evaluate import Truth
    from worker.index import Index

_TOGETHER, _PANEL = 512, "generated"
SPLITS = {"tuning": "tune", "test": "test"}


def bits_part(folder: Path, work: Path) -> dict[str, Any]:
    """Score the generated queries in `work` with the index of `folder` in eight and in four bits, and judge both."""
    model, index = opened(folder)
    facts = json.loads((work / "queries.json").read_text())
    asked = panel(queries_of(work / "queries.json"), _PANEL)
    stored = load_file(work / "queries.safetensors")
    latents = Bytes(stored["codes"], stored["scale"].float()).floats(asked)
    segments = query_segments(model, latents, [facts[place] for place in asked.tolist()]).to(model.device)
    rows = gradient_rows(model, segments, row_requests(index.config, _TOGETHER))[0]
    few = in_four_bits(index)
    ways = {"eight": index, "four": few, "fresh": replace(few, fitted=None)}
    scores = {way: each.song_scores(each.scan(each.solved(rows))).double().cpu() for way, each in ways.items()}
    eight, four = scores["eight"], scores["four"]
    found = {name: _judged(scores, work, asked, name) for name in SPLITS}
    cosine = torch.nn.functional.cosine_similarity(index.shard.rows.floats(), few.shard.rows.floats(), dim=-1)
    return {
        "bytes_a_measure": {"8": index.config.dim, "4": few.shard.rows.codes.shape[-1]},
        "row_cosine_to_eight_bits": {"mean": round(float(cosine.mean()), 5), "least": round(float(cosine.min()), 5)},
        "ranking_spearman_to_eight_bits": round(float(spearman(eight, four).mean()), 5),
        "same_first_song": round(float((eight.argmax(1) == four.argmax(1)).double().mean()), 4),
        "score_to_eight_bits": round(float((eight * four).sum() / eight.square().sum()), 5),
        "lds": found,
    }


def in_four_bits(index: Index) -> Index:
    """Return `index` with its rows in four bits and everything else as it is."""
    shard = replace(index.shard, rows=Bytes.of(index.shard.rows.floats(), 4))
    return replace(index, shard=shard, fitted=index.curvature)


def _judged(scores: dict[str, Tensor], work: Path, asked: Tensor, split: str) -> dict[str, Any]:
    """Return the LDS in per cent of each way on the queries and random halves of `split`, and the differences."""
    family = Family.load(work / "truth-halves.safetensors")
    own = panel(queries_of(work / "queries.json"), _PANEL, SPLITS[split])
    truth = family.subsets(family.tuning if split == "tuning" else ~family.tuning).queries(own).truth
    chosen = {way: given[torch.isin(asked, own)] for way, given in scores.items()}
    return {"queries": len(own), "subsets": len(truth.kept)} | {
        kind: _compared(chosen, truth, kind == "centred") for kind in ("raw", "centred")
    }


def _compared(scores: dict[str, Tensor], truth: Truth, centred: bool) -> dict[str, Any]:
    means = {way: float(lds(given, truth, centred).mean()) for way, given in scores.items()}
    found: dict[str, Any] = {way: _per_cent(mean)[0] for way, mean in means.items()}
    for way in ("four", "fresh"):
        gap = paired_difference(scores[way], scores["eight"], truth, centred)
        found[f"{way}_minus_eight"] = _per_cent(gap.value, gap.low, gap.high)
    return found


def _per_cent(*parts: float) -> list[float]:
    return [round(100 * part, 2) for part in parts]
