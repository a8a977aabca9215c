"""Jobs under random kills, on both set-ups: whether one is lost, doubled or stuck.

    python -m bench.chaos
    python -m bench.chaos --starter     # the shipped model at the shipped lease: how soon a killed worker's job goes on

Real processes: `rootnote up` on SQLite, and Postgres, Valkey, API, sweeper and two workers that stand alone; a real
engine over a tiny model. Each set-up's result is kept as soon as it is there (--resume takes it from the folder).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import hardware
from bench.chaos import events, runs, starter
from bench.chaos.faults import OFTEN
from bench.chaos.setups import QUICK

if TYPE_CHECKING:
    from collections.abc import Sequence

BROKEN = (
    "results_not_whole",
    "results_without_success",
    "attempts_above_the_cap",
    "failed_before_the_cap",
    "leases_after_the_end",
    "tracks_not_counted_once",
    "histories_off",
    "jobs_metered_wrongly",
)
"""Promises beside those that a job is not lost, not doubled and not stuck."""
TOTALS = ("jobs", "kills", "lost", "doubled", "stuck")


def result(setups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Add the set-ups up."""
    totals = {name: sum(each[name] for each in setups.values()) for name in TOTALS}
    broken = {name: sum(each[name] for each in setups.values()) for name in BROKEN}
    for each in setups.values():
        untold = events.broken(each["webhooks"])
        broken |= {name: broken.get(name, 0) + count for name, count in untold.items()}
    return {**totals, "broken": broken, "settings": dict(QUICK), "setups": setups}


def sound(found: dict[str, Any]) -> bool:
    """Whether no promise was broken."""
    return not any((found["lost"], found["doubled"], found["stuck"], *found["broken"].values()))


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__.partition("\n")[0])
    home = Path(tempfile.gettempdir()) / "rootnote-chaos"
    parser.add_argument("--folder", type=Path, default=home, help="where it all lies (%(default)s)")
    parser.add_argument("--setups", nargs="+", choices=list(OFTEN), default=list(OFTEN))
    parser.add_argument("--jobs", type=int, default=2_000, help="accepted jobs, over all set-ups (%(default)s)")
    parser.add_argument("--kills", type=int, help="over all set-ups (200)")
    parser.add_argument("--pace", type=float, default=5.0, help="jobs that end between two faults (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="no new fault or job after so long (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="keep the results of set-ups that a run before finished")
    parser.add_argument("--starter", action="store_true", help="recovery of the shipped model; 20 kills unless asked")
    parser.add_argument("--out", type=Path, help="result file (bench/results/chaos.json, chaos_starter.json)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run, write the result file, and say with the exit status whether every promise was kept."""
    options = arguments(words)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.starter:
        return _recovery(options)
    found = result(runs.storms(options))
    print(json.dumps({name: found[name] for name in (*TOTALS, "broken")}))
    print(f"written to {hardware.save(options.out or hardware.RESULTS / 'chaos.json', found)}")
    return 0 if sound(found) else 1


def _recovery(options: argparse.Namespace) -> int:
    """Kill workers of the starter, on all set-ups at once: most of the time is waiting."""
    kills, folder = -(-(options.kills or runs.STARTER_KILLS) // len(options.setups)), options.folder / "starter"
    shutil.rmtree(folder, ignore_errors=True)
    setups = runs.at_once({name: (starter.run, name, kills, folder, runs.STARTER) for name in options.setups})
    found = {
        name: sum(each[name] for each in setups.values()) for name in ("killed_in_mid_job", "within", "ended_within")
    }
    out = options.out or hardware.RESULTS / "chaos_starter.json"
    print(f"{found}, written to {hardware.save(out, {**found, 'setups': setups})}")
    return 0 if found["within"] == found["killed_in_mid_job"] else 1


if __name__ == "__main__":
    sys.exit(main())
