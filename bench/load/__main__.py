"""Two hundred uploads of 10 MB at once and 500 polls a second, against the real API, on both databases.

    python -m bench.load

API, sweeper, broker and database run as they do in earnest; no worker computes meanwhile. Both clients are processes
of their own on the same machine; what they use of it stands in the result.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from app.access import keys
from app.db import engines, transaction
from app.models import DEFAULT_TENANT
from bench import hardware
from bench.chaos.tracks import track
from bench.history.client import percentile
from bench.history.service import cpu_of, loop_and_parser
from bench.load import polls, setups, uploads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.chaos.setups import Service

WARM_UP_SECONDS = 5.0
AFTER_SECONDS = 5.0
SAMPLE_SECONDS = 0.2
POLLED = 50
MEGABYTE = 1e6


@dataclass
class Memory:
    """The resident memory of the API's processes in bytes, sampled by a thread while a `with` lasts."""

    processes: Sequence[psutil.Process]
    samples: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over, self._thread = Event(), Thread(target=self._sample)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.samples.append((time.time(), sum(each.memory_info().rss for each in self.processes)))

    def summary(self, began: float, ended: float) -> dict[str, float]:
        """Return megabytes before the uploads, at most while they came, and at the end."""
        before = [size for at, size in self.samples if at < began]
        during = [size for at, size in self.samples if began <= at <= ended]
        sizes = {"before": max(before), "peak": max(during), "after": self.samples[-1][1]}
        return {name: round(size / MEGABYTE, 1) for name, size in sizes.items()}


def measure(service: Service, options: argparse.Namespace) -> dict[str, Any]:
    """Poll, upload while polling, poll on; return how both went."""
    key, api = _key(service), _with_children(service.started.find("api"))
    database = service.postgres.backends if service.postgres else list[psutil.Process]
    polling = _client("polls", service.url, key, str(options.rate), *_to_poll(service.url, key))
    with Memory(api) as memory:
        time.sleep(WARM_UP_SECONDS)
        marks = [Mark.now(api, database())]
        sent, _ = _client("uploads", service.url, key, str(options.uploads), str(options.megabytes)).communicate()
        marks.append(Mark.now(api, database()))
        time.sleep(AFTER_SECONDS)
        marks.append(Mark.now(api, database()))
    polled, _ = polling.communicate()
    sending, answers = json.loads(sent), json.loads(polled)
    began, ended = marks[0].at, marks[1].at
    return {
        "uploads": _uploads(sending, ended - began),
        "polls": {
            "rate": options.rate,
            "before": _polls(answers["polls"], 0.0, began),
            "while_uploading": _polls(answers["polls"], began, ended),
            "after": _polls(answers["polls"], ended, marks[2].at),
        },
        "api_memory_mb": memory.summary(began, ended),
        "cores_while_uploading": marks[0].cores(marks[1]),
        "cores_after": marks[1].cores(marks[2]),
        "clients_cpu_s": {"polls": round(answers["cpu_s"], 1), "uploads": round(sending["cpu_s"], 1)},
    }


@dataclass(frozen=True)
class Mark:
    """An instant (Unix), and the CPU seconds that the API and the database had used by then."""

    at: float
    api_s: float
    database_s: float

    @classmethod
    def now(cls, api: list[psutil.Process], database: list[psutil.Process]) -> Mark:
        """Take it; the database's connections must stay open until the next one."""
        return cls(time.time(), cpu_of(api), cpu_of(database))

    def cores(self, later: Mark) -> dict[str, float]:
        """Return how many cores each used until a later instant, on average."""
        seconds = later.at - self.at
        used = {"api": later.api_s - self.api_s, "database": later.database_s - self.database_s}
        return {name: round(cpu / seconds, 2) for name, cpu in used.items()}


def _with_children(parents: list[psutil.Process]) -> list[psutil.Process]:
    return [each for parent in parents for each in (parent, *parent.children(recursive=True))]


def _client(name: str, *words: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", f"bench.load.{name}", *words)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=hardware.ROOT)


def _key(service: Service) -> str:
    """Return the secret of a new key: a platform has one, and a key that was used lately is known without asking."""
    with closing(engines(service.settings)) as db, transaction(db) as session:
        return keys.create(session, keys.NewKey(DEFAULT_TENANT, "load"))[1]


def _to_poll(url: str, key: str) -> list[str]:
    """Post some short tracks, and return where they are."""
    with httpx.Client(base_url=url, timeout=30.0, headers={"Authorization": f"Bearer {key}"}) as client:
        files = [{"audio": ("track.wav", track(number))} for number in range(POLLED)]
        answers = [client.post("/v1/attributions", files=each).raise_for_status() for each in files]
    return [answer.headers["Location"] for answer in answers]


def _uploads(sent: dict[str, Any], seconds: float) -> dict[str, Any]:
    each = sent["uploads"]
    took = [upload["ended"] - upload["began"] for upload in each if upload["id"]]
    return {
        "count": len(each),
        "bytes_each": sent["bytes_each"],
        "accepted": len(took),
        "accepted_at_first": sum(upload["tries"] == [202] for upload in each),
        "tries_by_status": sent["statuses"],
        "refused_without_retry_after": sum(upload["untold"] for upload in each),
        "seconds": round(seconds, 1),
        "accepted_after_s": _spread(took, 2),
    }


def _polls(done: Sequence[polls.Done], since: float, until: float) -> dict[str, Any]:
    found = [each for each in done if since <= each[0] < until]
    ended = Counter(how for *_, how in found)
    first, last = (min(each[0] for each in found), max(each[0] for each in found)) if found else (0.0, 0.0)
    return {
        "sent": len(found),
        "sent_per_second": round(len(found) / (last - first), 1) if last > first else 0.0,
        "answered": ended["answered"],
        "refused_with_retry_after": ended["refused"],
        "failed": ended["failed"],
        "ms": _spread([took * 1000 for _, _, took, how in found if how == "answered"], 1),
        "refused_ms": _spread([took * 1000 for _, _, took, how in found if how == "refused"], 1),
        "left_late_ms": _spread([each[1] * 1000 for each in found], 1),
    }


def _spread(values: Sequence[float], digits: int) -> dict[str, float]:
    """Return percentiles, none where there are no values."""
    return {f"p{each}": round(percentile(values, each), digits) for each in (50, 95, 99, 100)} if values else {}


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__.partition("\n")[0])
    home = Path(tempfile.gettempdir()) / "rootnote-load"
    parser.add_argument("--folder", type=Path, default=home, help="where it all lies (%(default)s)")
    parser.add_argument("--setups", nargs="+", choices=list(setups.SETUPS), default=list(setups.SETUPS))
    parser.add_argument("--uploads", type=int, default=200, help="at once (%(default)s)")
    parser.add_argument("--megabytes", type=float, default=10.0, help="of each (%(default)s)")
    parser.add_argument("--rate", type=float, default=500.0, help="polls a second (%(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="of the API (%(default)s)")
    parser.add_argument("--out", type=Path, default=hardware.RESULTS / "load.json", help="result file (%(default)s)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measure every set-up, print what matters, write the result file."""
    options, found = arguments(words), {}
    for name in options.setups:
        with ExitStack() as stack:
            folder = options.folder / name
            shutil.rmtree(folder, ignore_errors=True)
            service = stack.enter_context(setups.SETUPS[name](folder, options.processes))
            before = {"load_average_before": psutil.getloadavg()[0], "api_processes": options.processes}
            found[name] = before | measure(service, options)
        print(name, json.dumps(found[name]), flush=True)
    clients = {"clients": [polls.NAME, uploads.NAME], "uvicorn": loop_and_parser()}
    print(f"written to {hardware.save(options.out, {**clients, 'setups': found})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
