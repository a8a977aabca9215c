"""Seconds, the device's queue waited for, and what is said of many of them."""

from __future__ import annotations

import gc
import math
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def settle(device: torch.device) -> None:
    """Wait until `device` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device, repeats: int, warmup: int = 1) -> list[float]:
    """Return what each of `repeats` runs of `work` took, after `warmup` ones that are not counted."""
    taken = []
    for turn in range(warmup + repeats):
        settle(device)
        began = time.perf_counter()
        work()
        settle(device)
        if turn >= warmup:
            taken.append(time.perf_counter() - began)
    return taken


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` per cent of `values` do not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def summary(taken: Sequence[float]) -> dict[str, float | int]:
    """Return count, median, 95th percentile and largest of `taken` seconds."""
    return {
        "n": len(taken),
        "p50_s": round(statistics.median(taken), 6),
        "p95_s": round(percentile(taken, 95), 6),
        "max_s": round(max(taken), 6),
    }


def free(device: torch.device) -> None:
    """Give memory that nothing holds back to `device`."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
