"""From folders of parts to one result file and its pictures: python -m bench.scale.merge FOLDER ... .

Later folders win where a part is in several. Keys under `extrapolated` were not measured but scaled by count.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import hardware
from bench.scale.plots import draw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_FOUR = "machines of four GPUs could not be had"
_GIGABYTES = ("index_gb", "index_gb_a_measure")
Results = dict[str, dict[str, Any]]


def collected(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return every part's file by name; a part that failed stands only where no folder has it whole."""
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            part = json.loads(path.read_text())
            if "part" in part and ("result" in part or part["part"] not in found):
                found[part["part"]] = part
    return found


def merged(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the result file's content; a key is None where its part is missing."""
    results: Results = {name: dict(part.get("result") or {}) for name, part in parts.items()}
    scan, sweep, extrapolated = results.get("scan", {}), results.get("sweep", {}), _extrapolated(results)
    return {
        "query": {"starter": _query(results, "starter"), "full_size": _query(results, "full")},
        "gradient_over_floor": _of(results, "full-floor", "gradient_over_floor"),
        "gradient_over_floor_starter": _of(results, "starter-floor", "gradient_over_floor"),
        "scan_ms": _times(_of(scan, "together", "p50_s"), 1000),
        "scan_queries": scan.get("queries"),
        "index_gb": scan.get("index_gb"),
        "index_gb_a_measure": scan.get("index_gb_a_measure"),
        "four_bits": _four_bits(results),
        "cheaper_than_finite_step": _of(extrapolated, "full_size", "cheaper_than_finite_step", "bfloat16"),
        "extrapolated_keys": ["cheaper_than_finite_step", "extrapolated"],
        "packages": _of(results, "packages", "found"),
        "build_over_floor": _of(results, "full-build", "build_over_floor"),
        "build_over_floor_starter": _of(results, "starter-build", "build_over_floor"),
        "speedup_2_gpus": _of(results, "spread", "speedup_2"),
        "speedup_4_gpus": _of(results, "spread", "speedup_4"),
        "speedup_4_gpus_reason": None if _of(results, "spread", "speedup_4") else NO_FOUR,
        "queries_per_gpu_hour": {name: results.get(f"{name}-busy") for name in ("starter", "full")},
        "cpu_query_s": _of(results, "cpu-query", "p50_s"),
        "catalogues": sweep.get("catalogues"),
        "lengths": {name: _of(results, f"{name}-lengths", "tracks") for name in ("starter", "full")},
        "laws": results.get("laws"),
        "laws_full_size": results.get("full-laws"),
        "recorded": results.get("starter-recorded"),
        "profiles": {name: results.get(f"{name}-profile") for name in ("starter", "full", "cpu")},
        "extrapolated": extrapolated,
        "parts": dict(parts),
        "made_on": {name: part.get("hardware") for name, part in parts.items()},
    }


def history(path: Path) -> float | None:
    """Return what `bench.history` measured at the 99th percentile; None where it has not run."""
    return float(json.loads(path.read_text())["history_p99_ms"]) if path.exists() else None


def _query(results: Results, name: str) -> dict[str, Any] | None:
    """Say what a query takes: ranked rows, and ranked rows with the finite-step check."""
    made = results.get(f"{name}-query", {})
    checked = _of(made, "ranked_and_checked") or _of(results, f"{name}-checked", "ranked_and_checked")
    if not made:
        return None
    facts = {key: value for key, value in made.items() if not isinstance(value, dict)}
    return {**facts, **made["ranked"], "with_check": checked}


def _extrapolated(results: Results) -> dict[str, Any]:
    """Compare finite steps over the whole catalogue, scaled by count from a slice, with a query's measured time."""
    found: dict[str, Any] = {}
    for name, key in (("full", "full_size"), ("starter", "starter")):
        finite, query = _of(results, f"{name}-finite", "extrapolated", "query_s"), _query(results, name)
        if finite and query:
            found[key] = {
                "finite_step_query_s": finite,
                "cheaper_than_finite_step": {kind: round(took / query["p50_s"], 1) for kind, took in finite.items()},
            }
    return found


def _four_bits(results: Results) -> dict[str, Any] | None:
    """Put together what a scan of rows in four bits takes and what they cost in faithfulness."""
    scanned, judged = _of(results, "scan", "four_bits"), results.get("bits")
    if scanned is None and judged is None:
        return None
    named = {"scan_ms": _times(_of(scanned, "p50_s"), 1000), **{k: _of(scanned, k) for k in _GIGABYTES}}
    return named | (judged or {})


def _of(tree: Mapping[str, Any], *path: str) -> Any:
    """Return what lies at `path`, None where it ends early."""
    found: Any = tree
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else round(value * factor, 4)


def main(words: Sequence[str] | None = None) -> int:
    """Write the result file and draw its pictures."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale.merge", description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of parts")
    parser.add_argument("--out", type=Path, default=hardware.RESULTS / "scale.json", help="result file (%(default)s)")
    parser.add_argument("--images", type=Path, default=hardware.ROOT / "docs" / "images", help="folder of pictures")
    parser.add_argument(
        "--history", type=Path, default=hardware.RESULTS / "history.json", help="of `bench.history` (%(default)s)"
    )
    given = parser.parse_args(words)
    result = merged(collected(given.folders)) | {"history_p99_ms": history(given.history)}
    print(f"written to {hardware.save(given.out, result)}")
    for path in draw(result, given.images):
        print(f"drawn {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
