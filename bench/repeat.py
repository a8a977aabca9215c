"""Whether the same track gets the same answer from different workers, after a restart, and after others' jobs.

    python -m bench.repeat

Postgres, Valkey, API, sweeper and two workers as processes; the starter, tracks that it generates and one that it did
not. Every number of every answer is compared bit for bit, the seconds that it took left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.client import Client, Track
from app.demo import Asked, generate
from bench import hardware
from bench.chaos.setups import Service, Wanted, production
from bench.chaos.tracks import track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.attributions.schemas import Attribution

WORKERS = 2
OTHERS = 8
MOST_ROUNDS = 8
PATIENCE_SECONDS = 600.0


@dataclass
class Answers:
    """What was answered about each track: digest of the numbers → workers that gave it; and from which versions."""

    given: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    versions: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def add(self, client: Client, name: str, done: Attribution) -> str:
        """Keep an answer; returns who gave it."""
        assert done.result is not None, f"{name}: {done.status} {done.error}"
        worker = str(done.result.worker_id)
        self.given[name][digest(client, done)].add(worker)
        self.count += 1
        self.versions = {
            "model_digest": done.result.model_digest,
            "index_digest": done.result.index_digest,
            **done.result.details["versions"],
        }
        return worker

    def summary(self) -> dict[str, Any]:
        """Say how many answers and workers there were, and in how many tracks they disagree."""
        tracks = {
            name: {"answers_differ": len(found) > 1, "workers": _workers(found)} for name, found in self.given.items()
        }
        differ = sum(each["answers_differ"] for each in tracks.values())
        return {"answers": self.count, "tracks": tracks, "tracks_that_differ": differ, "versions": self.versions}


def _workers(found: dict[str, set[str]]) -> int:
    return len(set().union(*found.values()))


def digest(client: Client, done: Attribution) -> str:
    """Return the digest of all that was found: every rank, song and number, the verdicts, the remainder."""
    assert done.result is not None
    result = done.result.model_dump(mode="json", exclude={"timings", "worker_id"})
    rows = [row.model_dump(mode="json") for row in client.influences(done.id)]
    return hashlib.sha256(json.dumps([result, rows], sort_keys=True).encode()).hexdigest()


def ask(client: Client, tracks: dict[str, Track], answers: Answers) -> dict[str, str]:
    """Post every track at once and wait for all answers; returns which worker gave each."""
    posted = {name: client.post(each).id for name, each in tracks.items()}
    return {name: answers.add(client, name, _ended(client, ident)) for name, ident in posted.items()}


def _ended(client: Client, ident: str) -> Attribution:
    limit = time.monotonic() + PATIENCE_SECONDS
    while (shown := client.get(ident)).finished_at is None:
        assert time.monotonic() < limit, f"{ident} is {shown.status}"
        time.sleep(0.2)
    return shown


def ask_every_worker(client: Client, tracks: dict[str, Track], answers: Answers) -> None:
    """Ask until each track was answered by every worker that lives now, itself and its neighbours in another order."""
    asked: dict[str, set[str]] = {name: set() for name in tracks}
    for turn in range(MOST_ROUNDS):
        names = sorted(tracks, reverse=turn % 2 == 1)
        for name, worker in ask(client, {name: tracks[name] for name in names}, answers).items():
            asked[name].add(worker)
        if all(len(workers) >= WORKERS for workers in asked.values()):
            return


def restart_workers(service: Service, client: Client) -> None:
    """Have every worker leave and another process take its place."""
    for parent in service.started.find("parent"):
        parent.terminate()
        parent.wait(60)
    limit = time.monotonic() + PATIENCE_SECONDS
    while len(service.started.find("child")) < WORKERS or not client.ready():
        assert time.monotonic() < limit, "the workers did not come back"
        time.sleep(0.2)


def measure(folder: Path, model: Path, tracks: dict[str, Track]) -> dict[str, Any]:
    """Ask two workers, ask them again after others' jobs, ask other workers; return what the answers say."""
    answers, others = Answers(), Answers()
    folder.mkdir(parents=True, exist_ok=True)
    noise = {
        f"other-{number}": _written(folder / f"other-{number}.wav", track(number, 3.0)) for number in range(OTHERS)
    }
    with production(Wanted(folder, model, {}, workers=WORKERS)) as service, Client(service.url) as client:
        _await(client)
        ask_every_worker(client, tracks, answers)
        ask(client, noise, others)
        ask_every_worker(client, tracks, answers)
        restart_workers(service, client)
        ask_every_worker(client, tracks, answers)
    return answers.summary()


def _await(client: Client) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not client.ready():
        assert time.monotonic() < limit, "the service did not get ready"
        time.sleep(0.2)


def _written(path: Path, sound: bytes, prompt: str | None = None) -> Track:
    path.write_bytes(sound)
    return Track(path, prompt=prompt)


def generated(folder: Path, model: Path) -> dict[str, Track]:
    """Return tracks that a model makes under its own prompts, and one of notes that it did not make."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = json.loads((model / "prompts.json").read_text())["background"][:2]
    tracks = {"notes": _written(folder / "notes.wav", track(0, 6.0, 16_000))}
    for seed, prompt in enumerate(prompts):
        path = folder / f"generated-{seed}.wav"
        generate(Asked(model, prompt, seed), path)
        tracks[path.stem] = Track(path, prompt=prompt)
    return tracks


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.repeat", description=__doc__.partition("\n")[0])
    home = Path(tempfile.gettempdir()) / "rootnote-repeat"
    parser.add_argument("--folder", type=Path, default=home, help="where it all lies (%(default)s)")
    parser.add_argument("--model", type=Path, default=hardware.ROOT / "starter", help="a model's folder (%(default)s)")
    parser.add_argument("--out", type=Path, default=hardware.RESULTS / "repeat.json", help="result file (%(default)s)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, write the result file, and say with the exit status whether all answers were the same."""
    options = arguments(words)
    shutil.rmtree(options.folder, ignore_errors=True)
    found = measure(options.folder / "service", options.model, generated(options.folder, options.model))
    print(json.dumps(found))
    print(f"written to {hardware.save(options.out, found)}")
    return 1 if found["tracks_that_differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
