"""The set-ups at once, each in a process of its own: it finds its victims below itself."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from bench import hardware
from bench.chaos import storm
from bench.chaos.faults import OFTEN
from bench.chaos.setups import QUICK

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

THREADS = {"OMP_NUM_THREADS": "1"}
STARTER = hardware.ROOT / "starter"
KILLS, STARTER_KILLS = 200, 20


def storms(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run the set-ups that have no result yet, all at once."""
    tiny_model(options.folder / "tiny")
    return at_once({name: (_storm, name, number, options) for number, name in enumerate(options.setups)})


def at_once(runs: dict[str, tuple[Any, ...]]) -> dict[str, dict[str, Any]]:
    """Call functions with their arguments, each in a process of its own, and return what each returned."""
    with ProcessPoolExecutor(len(runs), mp_context=multiprocessing.get_context("spawn")) as pool:
        begun = {name: pool.submit(*run) for name, run in runs.items()}
        return {name: run.result() for name, run in begun.items()}


def tiny_model(folder: Path) -> Path:
    """Return the folder of the tiny registered model, made where it is missing."""
    if not (folder / "index").exists():
        from bench import tiny  # torch stays out of what only looks on

        folder.mkdir(parents=True, exist_ok=True)
        tiny.make(folder)
    return folder


def _storm(name: str, number: int, options: argparse.Namespace) -> dict[str, Any]:
    kept = options.folder / f"{name}.json"
    if not (options.resume and kept.exists()):
        shutil.rmtree(options.folder / name, ignore_errors=True)
        jobs, kills = (-(-count // len(options.setups)) for count in (options.jobs, options.kills or KILLS))
        plan = storm.Plan(jobs, kills, options.seed + number, options.pace, OFTEN[name], options.minutes)
        where = storm.Where(options.folder, options.folder / "tiny", QUICK, THREADS, _say)
        kept.write_text(json.dumps({"seed": plan.seed, **storm.run(name, plan, where)}))
    return dict(json.loads(kept.read_text()))


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
