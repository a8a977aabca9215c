"""How long reading takes: GET of a result and of a song's influence history, over HTTP, from a running service.

    python -m bench.latency --url http://127.0.0.1:8000

One client on one kept-alive connection, one request after another; the time is from sending to the last byte. The
machine, the amount of data behind the answers and the commit stand in the file beside the times.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from app.client import Client
from app.errors import ServiceError
from bench import hardware

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Timing:
    """What one call took, in milliseconds, and how large its answer was."""

    path: str
    requests: int
    response_bytes: int
    median_ms: float
    p95_ms: float
    max_ms: float


class NothingToMeasure(SystemExit):
    """The service holds no result to read."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` per cent of `values` do not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def timed(client: httpx.Client, path: str, requests: int, warmup: int) -> Timing:
    """Measure `requests` GETs of `path` after `warmup` unmeasured ones; raises httpx.HTTPStatusError on any failure."""
    spent: list[float] = []
    for turn in range(warmup + requests):
        start = time.perf_counter()
        answer = client.get(path)
        elapsed = (time.perf_counter() - start) * 1000
        answer.raise_for_status()
        if turn >= warmup:
            spent.append(elapsed)
    numbers = (statistics.median(spent), percentile(spent, 95), max(spent))
    return Timing(path, requests, len(answer.content), *(round(number, 3) for number in numbers))


def newest_result(service: Client) -> str:
    """Return the id of the newest attribution that succeeded."""
    for attribution in service.attributions(status="succeeded"):
        return attribution.id
    raise NothingToMeasure("no attribution has succeeded yet: post a track first")


def sizes(service: Client, song: str) -> dict[str, int]:
    """Count what the service holds, and the rows of the measured song's history."""
    lists = {
        "attributions": service.attributions(),
        "songs": service.songs(),
        "models": service.models(),
        "history_rows": service.history(song),
    }
    return {name: sum(1 for _ in rows) for name, rows in lists.items()}


def measure(url: str, requests: int, warmup: int) -> dict[str, Any]:
    """Measure the four reading calls on the newest result and its first song, at the service at `url`."""
    with Client(url) as service:
        attribution = newest_result(service)
        song = next(service.influences(attribution)).song.id
        held = sizes(service, song)
    calls = {
        "result": f"/v1/attributions/{attribution}",
        "influences": f"/v1/attributions/{attribution}/influences",
        "history": f"/v1/songs/{song}/influences",
        "history_series": f"/v1/songs/{song}/influence-history?bucket=day",
    }
    with httpx.Client(base_url=url, timeout=10.0) as client:
        timings = {name: asdict(timed(client, path, requests, warmup)) for name, path in calls.items()}
    return {"calls": timings, "sizes": held}


def positive(word: str) -> int:
    """Read a whole number of at least 1; raises ValueError."""
    number = int(word)
    if number < 1:
        raise ValueError(word)
    return number


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the service is (%(default)s)")
    parser.add_argument("--requests", type=positive, default=300, help="measured requests per call (%(default)s)")
    parser.add_argument("--warmup", type=positive, default=30, help="unmeasured requests before them (%(default)s)")
    parser.add_argument("--out", type=Path, default=hardware.RESULTS / "latency.json", help="result file (%(default)s)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print one line per call, write the result file; a service that does not answer ends it with a word."""
    options = arguments(words)
    try:
        result = measure(options.url, options.requests, options.warmup)
    except ServiceError as error:
        sys.exit(f"{error}")
    for name, each in result["calls"].items():
        print(f"{name:15} median {each['median_ms']:7.2f} ms   p95 {each['p95_ms']:7.2f} ms")
    print(f"written to {hardware.save(options.out, result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
