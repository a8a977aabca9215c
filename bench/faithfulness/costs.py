"""What a query and a kept segment cost: GPU-seconds from the runs' own clocks, bytes from what must be kept."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from worker.manifest import IndexConfig
from worker.shards import Bytes

if TYPE_CHECKING:
    from pathlib import Path

    from bench.faithfulness.raw import Answers, Raw

FLOAT, HALF = 4, 2
PACKAGE_DRAWS = 16
ROWS, PRODUCTS, SEGMENT_ROWS = "rows of queries", "products of queries", "rows of segments"


@dataclass(frozen=True)
class Costs:
    """WORK holds pipeline/ and the training set; `raw` the clocks."""

    work: Path
    raw: Raw

    def gradients(self, measures: tuple[str, ...], whole: bool) -> dict[str, Any]:
        """Return the cost of one gradient of every measure and of keeping such rows, whole or projected in bytes.

        The search itself is left out: it takes microseconds.
        """
        runs = self.runs(whole)
        seconds = {part: taken for run in runs for part, taken in run["seconds"].items()}
        job = runs[-1]["job"] if runs else {}
        taken = [seconds.get(f"{m} {ROWS}") for m in measures]
        kept = FLOAT * self.weights if whole else row_bytes(job.get("dim", IndexConfig().dim))
        spent = sum(t for t in taken if t is not None) / self.raw.queries
        draws = job.get("query_draws"), job.get("draws")
        return {
            "query_gpu_s": round(spent, 4) if None not in taken else None,
            "bytes_per_segment": len(measures) * kept,
            "draws": {"query": draws[0], "segment": draws[1]},
        }

    def das(self, measure: str) -> dict[str, Any]:
        """Return the cost of a query's products with all training gradients, which are kept whole."""
        paths = self.raw.all("timing-das.json")
        seconds = json.loads(paths[-1].read_text())["seconds"] if paths else {}
        runs = sum(name.endswith(SEGMENT_ROWS) for name in seconds)
        spent = round(seconds[PRODUCTS] / runs / self.raw.queries, 4) if runs else None
        return {**self.gradients((measure,), whole=True), "query_gpu_s": spent}

    def a_query_at_a_time(self, run: Answers) -> dict[str, Any]:
        """Return the cost of one step length: an answer's time shared by its step lengths; latents are kept."""
        return {
            "query_gpu_s": round(run.seconds / len(run.steps), 4),
            "bytes_per_segment": self.latents,
            "draws": {"query": run.settings["query_draws"], "segment": run.settings["draws"]},
        }

    def tuned(self, run: Answers) -> dict[str, Any]:
        """Return the cost of fine-tuning, and how often its stopping rule was met."""
        ratio = run.values["ratio"]
        asked = ratio.isfinite()
        return {
            "query_gpu_s": round(run.seconds, 4),
            "bytes_per_segment": self.latents,
            "draws": {"segment": run.settings["draws"]},
            "rule_met": round(float((ratio[asked] >= run.settings["enough"]).float().mean()), 3),
            "median_steps": int(run.values["steps"].nanmedian()),
        }

    def embedding(self, space: str) -> dict[str, Any]:
        """Return what a segment's features take; a query costs no gradient."""
        vae, transformer = (self._config(part) for part in ("vae", "transformer"))
        channels = vae["latent_channels"]
        numbers = {
            "latent_statistics": 2 * channels,
            "mel_statistics": 2 * vae["n_mels"],
            "model_features": transformer["num_attention_heads"] * transformer["attention_head_dim"],
        }
        kept = FLOAT * numbers[space] if space in numbers else self.latents if space.startswith("latents") else None
        return {"query_gpu_s": 0.0, "bytes_per_segment": kept}

    def features(self, numbers: int) -> dict[str, Any]:
        """Return what so many numbers a segment take; a query costs no gradient."""
        return {"query_gpu_s": 0.0, "bytes_per_segment": FLOAT * numbers}

    def runs(self, whole: bool) -> list[dict[str, Any]]:
        """Return clocks and settings of the gradients' runs, of those that kept whole rows' products where `whole`."""
        paths = self.raw.all("timing-grams.json")
        kept = [p for p in paths if not whole or any(p.parent.glob("gram-*.safetensors"))]
        return [json.loads(path.read_text()) for path in kept]

    @cached_property
    def packages(self) -> dict[str, dict[str, float]]:
        """What the public packages' runs took, by matrix: index_s, query_s, bytes_per_segment."""
        paths = self.raw.all("costs-packages.json")
        return {name: cost for path in paths for name, cost in json.loads(path.read_text()).items()}

    def package(self, name: str) -> dict[str, Any]:
        """Return the cost of a query by a public package; one that keeps nothing has the training set's latents."""
        cost = self.packages[name]
        return {
            "query_gpu_s": round(cost["query_s"], 4),
            "bytes_per_segment": int(cost["bytes_per_segment"]) or self.latents,
            "draws": {"query": PACKAGE_DRAWS, "segment": PACKAGE_DRAWS},
        }

    @cached_property
    def weights(self) -> int:
        """How many numbers a whole gradient has."""
        told = [run["job"].get("rows", {}).get("weights") for run in self.runs(whole=False)]
        pattern = re.compile((told[-1] if told else None) or IndexConfig().weights)
        found = 0
        for path in (self.work / "pipeline" / "transformer").glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                shapes = [file.get_slice(name).get_shape() for name in file.keys() if pattern.search(name)]  # noqa: SIM118
            found += sum(int(torch.tensor(shape).prod()) for shape in shapes)
        return found

    @cached_property
    def latents(self) -> int:
        """The bytes of a segment's latents in half precision."""
        with safe_open(self.work / "training.safetensors", framework="pt") as file:
            _, channels, frames = file.get_slice("latents").get_shape()
        return HALF * int(channels) * int(frames)

    def _config(self, part: str) -> dict[str, Any]:
        return dict(json.loads((self.work / "pipeline" / part / "config.json").read_text()))


def row_bytes(dim: int) -> int:
    """Return what the index keeps of one projected row of one measure."""
    row = Bytes.of(torch.zeros(1, dim))
    return row.codes.nbytes + row.scale.nbytes
