"""What a measurement was made on: machine, versions, commit and date, for every result file to include."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
GIBIBYTE = 2**30


def facts() -> dict[str, Any]:
    """Return JSON-ready facts about this machine (memory in GiB), the software on it and the commit that runs."""
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "memory_gib": _memory(),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": _version("torch"),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def save(path: Path, result: dict[str, Any]) -> Path:
    """Write `result` and the facts to `path`, in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({**result, "hardware": facts()}, indent=2, allow_nan=False) + "\n")
    return draft.replace(path)


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Count the cores that this process may use, which a container can limit."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _memory() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIBIBYTE, 1)


def _gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    return _lines("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit checked out here, with `+changes` where the tree differs from it; None without git."""
    if not shutil.which("git"):
        return None
    commit = _lines("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changed = _lines("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", ":!bench/results")
    return commit[0] + ("+changes" if changed else "") if commit else None


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []
