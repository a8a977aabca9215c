"""A running service with a real, if tiny, model under hostile input: what it answered, who died, how large it grew."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from app import supervisor
from app.config import Settings
from app.demo import free_port
from bench.hostile import metadata
from tests.processes import environment

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SENDERS = 4
READY_SECONDS = 120.0
PROBLEM = b'"type":"urn:rootnote:problem:'
ROLES = {
    "app.decoder_server": "decoder",
    "uvicorn": "api",
    "celery": "worker",
    "billiard": "worker",
    "valkey": "broker",
}
ENDED = {"succeeded", "failed", "canceled", "expired"}


@dataclass
class Watch:
    """Looks at every process of the service ten times a second: the largest of each role, in MB, and who there was."""

    root: psutil.Process
    peaks: dict[str, float] = field(default_factory=dict)
    workers: set[int] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.1):
            self.look()

    def look(self) -> None:
        """Look once."""
        for process in [self.root, *self.root.children(recursive=True)]:
            with suppress(psutil.Error):
                words = " ".join(process.cmdline())
                role = next((role for sign, role in ROLES.items() if sign in words), "other")
                self.peaks[role] = max(self.peaks.get(role, 0.0), round(process.memory_info().rss / 2**20, 1))
                if role == "worker":
                    self.workers.add(process.pid)


@dataclass
class Served:
    """A service that runs: its address, its folder of logs, and the watch on it."""

    url: str
    logs: Path
    watch: Watch

    def deaths(self) -> int:
        """Count the workers that died: parents that the supervisor restarted, children that Celery replaced."""
        said = {path.name: path.read_text(errors="replace") for path in self.logs.glob("*.log")}
        parents = said.get("up.log", "").count("worker ended (")
        return parents + said.get("worker.log", "").count("exited with")


@contextmanager
def serving(model: Path, folder: Path, **given: Any) -> Iterator[Served]:
    """Run the embedded service with the model in a folder."""
    place = {"data_dir": folder, "models": (model,), "model_name": model.name, "port": free_port("127.0.0.1", 0)}
    settings = Settings(**place, **given)
    log = folder / "logs" / "up.log"
    process = supervisor.start((sys.executable, "-m", "app.cli", "up"), log, environment(settings))
    served = Served(f"http://127.0.0.1:{settings.port}", log.parent, Watch(psutil.Process(process.pid)))
    thread = threading.Thread(target=served.watch.run)
    try:
        _await_ready(served.url, process)
        thread.start()
        yield served
    finally:
        served.watch.over.set()
        supervisor.end(process, 60.0)


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + READY_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz").is_success:
                return
        time.sleep(0.2)
    raise SystemExit("the service did not get ready")


@dataclass
class Answers:
    """What was answered: by status and type, and what should not have been."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    server_errors: int = 0

    def note(self, name: str, status: int, body: bytes) -> None:
        """Count an answer; a failure of the service, and a refusal without a type, are wrong."""
        kind = _kind(status, body)
        self.counts[kind] += 1
        self.server_errors += status >= 500
        untyped = status >= 400 and kind == str(status) and not name.startswith(("wire", "method HEAD"))
        if status >= 500 or untyped:
            self.wrong.append(f"{name}: {kind} {body[:200]!r}")


def _kind(status: int, body: bytes) -> str:
    if status >= 400 and PROBLEM in body:
        return f"{status} {json.loads(body)['type'].rpartition(':')[2]}"
    return str(status)


def post(url: str, files: Iterable[tuple[str, bytes]], answers: Answers) -> list[str]:
    """Send every file as a track; return the ids of those that were taken. Waits where it is told to."""
    taken: list[str] = []
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(SENDERS) as pool:
        for name, answer in pool.map(lambda named: (named[0], _post(client, *named)), files):
            answers.note(name, answer.status_code, answer.content)
            if answer.status_code == 202:
                taken.append(answer.json()["id"])
    return taken


def _post(client: httpx.Client, name: str, data: bytes) -> httpx.Response:
    while True:
        answer = client.post("/v1/attributions", files={"audio": (name, data)})
        if answer.status_code != 429:
            return answer
        time.sleep(float(answer.headers.get("Retry-After", "1")))


def ends(url: str, taken: Iterable[str], patience_s: float) -> Counter[str]:
    """Wait for the end of every job and count the ends, failures by their type; `stuck` where none came."""
    counted: Counter[str] = Counter()
    limit = time.monotonic() + patience_s
    with httpx.Client(base_url=url, timeout=60) as client:
        for ident in taken:
            counted[_end(client, ident, limit)] += 1
    return counted


def _end(client: httpx.Client, ident: str, limit: float) -> str:
    while time.monotonic() < limit:
        shown = client.get(f"/v1/attributions/{ident}").json()
        if shown["status"] in ENDED:
            return shown["error"]["type"].rpartition(":")[2] if shown.get("error") else shown["status"]
        time.sleep(0.1)
    return "stuck"


def run(model: Path, folder: Path, files: Iterable[tuple[str, bytes]], patience_s: float = 1_800.0) -> dict[str, Any]:
    """Send files and hostile requests to a service of its own; return the figures."""
    answers, words = Answers(), Answers()
    with serving(model, folder, max_seconds=30.0) as served:
        served.watch.look()
        at_rest = dict(served.watch.peaks)
        taken = post(served.url, files, answers)
        for name, status, body in metadata.send(served.url):
            words.note(name, status, body)
        taken += listed(served.url)
        jobs = ends(served.url, dict.fromkeys(taken), patience_s)
        alive = httpx.get(f"{served.url}/readyz").is_success
        return {
            "files": _figures(answers),
            "metadata": _figures(words),
            "jobs": dict(jobs.most_common()),
            "worker_deaths": served.deaths(),
            "still_ready": alive,
            "rss_mb_at_rest": at_rest,
            "peak_rss_mb": dict(served.watch.peaks),
        }


def listed(url: str) -> list[str]:
    """Return the id of every attribution, which also shows that the whole list can be read."""
    found, cursor = [], None
    with httpx.Client(base_url=url, timeout=60) as client:
        while True:
            place = {"limit": 200} | ({"cursor": cursor} if cursor else {})
            page = client.get("/v1/attributions", params=place).raise_for_status().json()
            found += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


def _figures(answers: Answers) -> dict[str, Any]:
    return {
        "inputs": answers.counts.total(),
        "answers": dict(answers.counts.most_common()),
        "server_errors": answers.server_errors,
        "wrong": answers.wrong,
    }
