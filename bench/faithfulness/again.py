"""Score some queries again from the shipped model and index, and compare with the committed scores.

`queries.safetensors` holds the latents of the queries in a byte a number, the first listing of the held-out windows
only; the committed scores were made from the latents as they were, so the two agree closely, not to the last digit.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from worker.diffusion.stable_audio import load  # first: it makes torchaudio importable

# isort: split
import torch
from safetensors.torch import load_file

from bench.faithfulness.setting import query_segments
from worker.attribution.evaluate import spearman
from worker.diffusion.layout import digest
from worker.engine import song_keys
from worker.index import Expected, Index, gradient_rows, row_requests
from worker.shards import Bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from worker.diffusion.stable_audio import StableAudio

SHIPPED = "ours, as shipped"
TOGETHER = 64


def opened(folder: Path) -> tuple[StableAudio, Index]:
    """Load the model and the index in `folder` on the best device there is."""
    expected = Expected(digest(folder / "pipeline"), song_keys(folder / "songs.csv"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load(folder / "pipeline", device), Index.open(folder / "index", expected)


def song_scores(model: StableAudio, index: Index, latents: Tensor, facts: Sequence[dict[str, Any]]) -> Tensor:
    """Return the song scores of queries, latents [q, c, f], as the service gives them: [q, songs]."""
    segments = query_segments(model, latents.float(), list(facts)).to(model.device)
    rows = gradient_rows(model, segments, row_requests(index.config, TOGETHER))[0]
    return index.song_scores(index.scan(index.solved(rows)))


def scored_again(work: Path, model: Path, committed: Tensor, places: Sequence[int]) -> dict[str, Any]:
    """Score the queries at `places` from scratch; return how their scores and first songs agree with `committed`."""
    stored, facts = load_file(work / "queries.safetensors"), json.loads((work / "queries.json").read_text())
    chosen = torch.tensor(places)
    latents = Bytes(stored["codes"], stored["scale"].float()).floats(chosen)
    found = song_scores(*opened(model), latents, [facts[place] for place in places]).double()
    wanted = committed[chosen].double()
    return {
        "queries": [facts[place]["id"] for place in places],
        "spearman": [round(x, 5) for x in spearman(found, wanted).tolist()],
        "correlation": [round(float(x), 5) for x in map(_correlation, found, wanted)],
        "same_first_song": [bool(x) for x in (found.argmax(1) == wanted.argmax(1)).tolist()],
    }


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    return torch.corrcoef(torch.stack([a, b]))[0, 1]
