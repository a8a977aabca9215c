"""Hostile input, by the thousand: forged and damaged files through the decoder, some of them through a whole service.

    python -m bench.hostile

Every file is made by code from a seed. The first part sends all of them through header check and decoder; the second
starts a service of its own with a tiny model that it trains, and sends some of the files, and hostile words, forms,
tables, headers and addresses, over HTTP. Nothing may die, nothing may answer 5xx, everything ends with its type.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from bench import hardware
from bench.hostile import direct, forged, mutations, seeds, service

if TYPE_CHECKING:
    from collections.abc import Sequence


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Send everything and return the figures; raises SystemExit where the service does not start."""
    from bench import tiny  # torch is loaded when the model is made, not before

    made = forged.corpus()
    print(f"{len(made)} forged files, {options.mutations} damaged ones, through the decoder")
    inside = direct.run(chain(made.items(), _damaged(options.mutations, options.seed)))
    print(f"{inside['inputs']} in {inside['seconds']} s: {inside['ends']}")
    with tempfile.TemporaryDirectory(prefix="rootnote-") as folder:
        model = tiny.make(Path(folder) / "tiny")
        sent = islice(made.items(), 0, None, max(1, len(made) // options.forged_served))
        print("a service, over HTTP")
        outside = service.run(model, Path(folder) / "data", chain(sent, _damaged(options.served, options.seed + 1)))
    return summary(inside, outside) | {"seed": options.seed}


def _damaged(count: int, seed: int) -> Any:
    """Four in five of a format that the service accepts, the rest of any."""
    rest = count // 5
    return chain(mutations.mutated(count - rest, seed, seeds.accepted()), mutations.mutated(rest, seed))


def summary(inside: dict[str, Any], outside: dict[str, Any]) -> dict[str, Any]:
    """Return the figures together."""
    parts = (outside["files"], outside["metadata"])
    strange = [end for end in outside["jobs"] if end in {"stuck", "attempts-exhausted", "internal", "decoder-failed"}]
    return {
        "inputs": inside["inputs"] + sum(part["inputs"] for part in parts),
        "worker_deaths": outside["worker_deaths"],
        "server_errors": sum(part["server_errors"] for part in parts),
        "untyped_or_wrong": len(inside["wrong"]) + sum(len(part["wrong"]) for part in parts) + len(strange),
        "peak_rss_mb": outside["peak_rss_mb"] | {"decoder_child": inside["decoder_peak_rss_mb"]},
        "decoder": inside,
        "service": outside,
    }


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__.partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=20_000, help="damaged files through the decoder (%(default)s)")
    parser.add_argument("--served", type=int, default=1_500, help="damaged files over HTTP (%(default)s)")
    parser.add_argument("--forged-served", type=int, default=600, help="about so many forged ones (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (%(default)s)")
    parser.add_argument("--out", type=Path, default=hardware.RESULTS / "hostile.json", help="result file (%(default)s)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measure and write the file; 1 where anything died, failed or was left untyped."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    result = measure(arguments(words))
    print(f"written to {hardware.save(arguments(words).out, result)}")
    for wrong in [
        *result["decoder"]["wrong"],
        *result["service"]["files"]["wrong"],
        *result["service"]["metadata"]["wrong"],
    ]:
        print(wrong)
    return int(bool(result["worker_deaths"] or result["server_errors"] or result["untyped_or_wrong"]))


if __name__ == "__main__":
    sys.exit(main())
