"""Where the time of a query's rows goes, by operation, as torch's profiler sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.profiler import ProfilerActivity, profile

from bench.scale.timing import settle
from worker.attribution.gradients import gradients_each
from worker.index import row_requests
from worker.methods import GROUPS

if TYPE_CHECKING:
    from bench.scale.plan import Plan
    from bench.scale.subjects import Subject

_LISTED = 16
_NAME = 80


def profile_part(subject: Subject, plan: Plan) -> dict[str, Any]:
    """Profile the rows of one window: the operations with the most time of their own, in milliseconds."""
    segments, requests = subject.segments(1, plan.seed), row_requests(plan.config, subject.batch)
    on_gpu = subject.device.type == "cuda"
    watched = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]

    def work() -> None:
        gradients_each(subject.fast, segments, requests, GROUPS)
        settle(subject.device)

    work()
    with profile(activities=watched) as seen:
        work()
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = [(str(each.key)[:_NAME], getattr(each, own) / 1000, each.count) for each in seen.key_averages()]
    found.sort(key=lambda each: -each[1])
    whole = sum(each[1] for each in found)
    rows = [{"operation": name, "ms": round(ms, 3), "calls": calls} for name, ms, calls in found[:_LISTED]]
    return {"clock": "GPU" if on_gpu else "CPU", "windows": 1, "total_ms": round(whole, 3), "operations": rows}
