"""The floor: how fast this model's own arithmetic runs on this device, and what rows take beside it.

    floor = segments × draws × (forward + measures × backward),   forward and backward a sample at the best batch size

`backward` is that of ordinary autograd with the selected weights asking for gradients, blocks in bfloat16 on a GPU.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bench.scale.timing import free, seconds
from worker.attribution.measure import Measure, Probe, measured
from worker.attribution.noise import Grid, drawn
from worker.attribution.replay import rows_of
from worker.index import row_requests
from worker.methods import GROUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.scale.plan import Plan
    from bench.scale.subjects import Subject
    from worker.attribution.types import Segments
    from worker.manifest import IndexConfig


@dataclass(frozen=True)
class Floor:
    """Seconds a sample at the best batch size; batch: that of forward and backward together."""

    forward_s: float
    both_s: float
    batch: int
    by_batch: dict[str, dict[str, float]]

    @property
    def backward_s(self) -> float:
        """Seconds a sample of one backward pass."""
        return self.both_s - self.forward_s

    def seconds(self, segments: float, config: IndexConfig) -> float:
        """Return the floor of the rows of `segments` segments."""
        return segments * config.draws * (self.forward_s + len(config.measures) * self.backward_s)

    def one_backward(self, segments: float, config: IndexConfig) -> float:
        """Return the floor of one measure, where the forward pass is followed by one backward pass."""
        return segments * config.draws * self.both_s


def floor(subject: Subject, plan: Plan, batches: Sequence[int]) -> Floor:
    """Measure forward and forward + backward at every batch size until memory ends; the best of each counts."""
    found: dict[int, tuple[float, float]] = {}
    for batch in batches:
        try:
            found[batch] = _rates(subject, plan, batch)
        except torch.OutOfMemoryError:
            break
        finally:
            _forget(subject)
    best = min(found, key=lambda batch: found[batch][1])
    tried = {str(batch): {"forward_s": pair[0], "both_s": pair[1]} for batch, pair in found.items()}
    return Floor(min(pair[0] for pair in found.values()), found[best][1], best, tried)


def _rates(subject: Subject, plan: Plan, batch: int) -> tuple[float, float]:
    model, segments = subject.fast, subject.segments(1, plan.seed)
    shape = (segments.latents.shape[1], segments.latents.shape[2])
    probe = Probe(Measure.SQUARED_OUTPUT, Grid(plan.seed, batch), batch)
    ready = Probe(probe.measure, drawn(probe.grid, shape, subject.device), batch)
    chosen = [p for n, p in model.module.named_parameters() if re.search(plan.config.weights, n)]

    def forward() -> None:
        with torch.no_grad():
            measured(model, {}, segments, ready)

    def both() -> None:
        for parameter in chosen:
            parameter.requires_grad_(True)
            parameter.grad = None
        measured(model, {}, segments, ready).sum().backward()

    taken = [min(seconds(work, subject.device, plan.repeats, 2)) / batch for work in (forward, both)]
    return taken[0], taken[1]


def _forget(subject: Subject) -> None:
    for parameter in subject.fast.module.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    free(subject.device)


def rows_seconds(subject: Subject, plan: Plan, segments: Segments, groups: int, repeats: int) -> list[float]:
    """Return what the rows of ready `segments` took, made as queries and builds make them."""
    requests = row_requests(plan.config, subject.batch)
    work = partial(rows_of, subject.fast, segments, requests, groups, subject.recorded)
    return seconds(work, subject.device, repeats)


def fit_batch(subject: Subject, plan: Plan) -> None:
    """Halve the subject's batch until the rows of a segment fit into the device's memory; tries on a GPU alone."""
    while subject.device.type == "cuda" and subject.batch > 1 and not _fits(subject, plan):
        subject.batch //= 2
        free(subject.device)


def _fits(subject: Subject, plan: Plan) -> bool:
    try:
        rows_seconds(subject, plan, subject.segments(1, plan.seed), GROUPS, 0)
    except torch.OutOfMemoryError:
        return False
    return True


def as_json(made: Floor) -> dict[str, Any]:
    """Return the floor as it is kept."""
    return asdict(made) | {"backward_s": made.backward_s}
