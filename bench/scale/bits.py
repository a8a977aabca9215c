"""What rows of four bits cost in faithfulness: the committed queries scored with the starter's index, either way.

The index's rows lie in whole bytes; in four bits they are rounded once more, as `rootnote index requantise` does, and
the curvature stays. Retrained models judge both; tuning queries and subsets decide, the others report.
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
    eight, four = (each.song_scores(each.scan(index.solved(rows))).double().cpu() for each in (index, few))
    found = {name: _judged(eight, four, work, asked, name) for name in SPLITS}
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


def _judged(eight: Tensor, four: Tensor, work: Path, asked: Tensor, split: str) -> dict[str, Any]:
    """Return the LDS in per cent of both on the queries and random halves of `split`, and their difference."""
    family = Family.load(work / "truth-halves.safetensors")
    own = panel(queries_of(work / "queries.json"), _PANEL, SPLITS[split])
    truth = family.subsets(family.tuning if split == "tuning" else ~family.tuning).queries(own).truth
    chosen = torch.isin(asked, own)
    one, other = eight[chosen], four[chosen]
    return {"queries": len(own), "subsets": len(truth.kept)} | {
        kind: _compared(one, other, truth, kind == "centred") for kind in ("raw", "centred")
    }


def _compared(eight: Tensor, four: Tensor, truth: Truth, centred: bool) -> dict[str, Any]:
    gap = paired_difference(four, eight, truth, centred)
    return {
        "eight": round(100 * float(lds(eight, truth, centred).mean()), 2),
        "four": round(100 * float(lds(four, truth, centred).mean()), 2),
        "four_minus_eight": [round(100 * x, 2) for x in (gap.value, gap.low, gap.high)],
    }
