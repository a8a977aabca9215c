"""One answer a query, kept as one goes: stopped at any time and started again, the work goes on where it was."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

SECONDS = "seconds"


class OtherSettings(ValueError):
    """The answers kept so far were made under other settings."""


@dataclass(frozen=True)
class Task:
    """Which queries to answer and where the answers are kept.

    path: a safetensors file; settings: what the answers depend on, kept beside them; queries: the places of those to
    answer, of `total` in all; limit_s: no query is begun after so many seconds; every: how many answers are made
    between two savings.
    """

    path: Path
    settings: Mapping[str, Any]
    queries: Sequence[int]
    total: int
    limit_s: float = float("inf")
    every: int = 8


def answer_all(task: Task, answer: Callable[[int], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Call `answer(query)` for every query not answered yet, and return all answers: name → [total, ...] float32.

    Rows of queries without an answer are NaN. `seconds` [total] is what each answer took. Raises OtherSettings where
    the file holds answers made under other settings.
    """
    kept, begun, unsaved = _opened(task), time.perf_counter(), 0
    for query in task.queries:
        if SECONDS in kept and bool(kept[SECONDS][query].isfinite()):
            continue
        if time.perf_counter() - begun > task.limit_s:
            break
        started = time.perf_counter()
        found = {name: value.detach().float().cpu() for name, value in answer(query).items()}
        found[SECONDS] = torch.tensor(time.perf_counter() - started)
        for name, value in found.items():
            kept.setdefault(name, torch.full((task.total, *value.shape), torch.nan))[query] = value
        unsaved += 1
        if unsaved % task.every == 0:
            _save(task, kept)
    _save(task, kept)
    return kept


def _opened(task: Task) -> dict[str, Tensor]:
    if not task.path.exists():
        return {}
    with safe_open(task.path, framework="pt") as file:
        before = json.loads((file.metadata() or {}).get("settings", "{}"))
    if before != json.loads(json.dumps(dict(task.settings))):
        raise OtherSettings(f"{task.path} holds answers under other settings: {before}")
    return dict(load_file(task.path))


def _save(task: Task, kept: Mapping[str, Tensor]) -> None:
    partial = task.path.with_suffix(".partial")
    save_file(dict(kept), partial, metadata={"settings": json.dumps(dict(task.settings))})
    partial.replace(task.path)
