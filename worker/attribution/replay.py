"""The passes of `gradients_each`, recorded once as CUDA graphs and replayed.

For models so small that launching their kernels takes longer than the kernels. Segments are taken in runs of 1, 2, 4, …
up to what a batch holds with all its draws, a graph each; a model that has not room for one segment in a batch gains
nothing and is served without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from worker.attribution.gradients import Request, Rows, Work, gradients_each
from worker.attribution.measure import require_ready
from worker.attribution.types import Conditioning, Progress, Segments, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from worker.attribution.types import Model

_WARMUPS = 3
Key = tuple[int, int, tuple[Request, ...]]
Kept = dict[Key, "Recorded"]


def rows_of(  # noqa: PLR0913  (as `gradients_each`, and where recordings are kept)
    model: Model,
    segments: Segments,
    requests: Sequence[Request],
    groups: int = 1,
    kept: Kept | None = None,
    progress: Progress = silent,
) -> Rows:
    """Return `gradients_each` of `segments`, replayed from recordings in `kept`; without `kept` as it comes.

    What is not recorded yet is; the recordings of one `kept` share their memory, so one thread may use it at a time.
    """
    most = requests[0].probe.batch // requests[0].probe.grid.draws
    if kept is None or most < 1 or model.device.type != "cuda":
        return gradients_each(model, segments, requests, groups, progress)
    found = []
    for run in _runs(len(segments), most):
        key, part = (run.stop - run.start, groups, tuple(requests)), segments[run]
        if key not in kept:
            pool = next((each.graph.pool() for each in kept.values()), None)
            kept[key] = Recorded.of(model, part, requests, groups, pool)
        found.append(kept[key].replay(part))
        progress(run.stop / len(segments))
    return Rows(torch.cat([each.rows for each in found], 1), torch.cat([each.profile for each in found], 1))


def _runs(count: int, most: int) -> Iterator[slice]:
    """Cut `count` segments into runs of powers of two of at most `most`, the longest first."""
    at = 0
    while at < count:
        size = 1 << (min(most, count - at).bit_length() - 1)
        yield slice(at, at + size)
        at += size


@dataclass(frozen=True)
class Recorded:
    """Recorded passes: the work, which holds all that they read and write, and the graph."""

    work: Work
    graph: torch.cuda.CUDAGraph

    @staticmethod
    def of(model: Model, segments: Segments, requests: Sequence[Request], groups: int, pool: Any = None) -> Recorded:
        """Record the rows of segments of this shape; needs a GPU, and no other work on it meanwhile.

        pool: of the memory of recordings that are never replayed at the same time.
        """
        own = Segments(segments.latents.clone(), segments.mask.clone(), _cloned(segments.cond)).to(model.device)
        require_ready(model, own)
        work = Work.of(model, own, requests, groups)
        aside: Any = torch.cuda.Stream(model.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(model.device))
        with torch.cuda.stream(aside):  # kernels are compiled and libraries started before anything is recorded
            for _ in range(_WARMUPS):
                work.run()
        torch.cuda.current_stream(model.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            work.rows.zero_()
            work.run()
        return Recorded(work, graph)

    def replay(self, segments: Segments) -> Rows:
        """Return the rows of `segments`, of the recorded shape. Raises ValueError where they are not finite."""
        require_ready(self.work.model, segments)
        for into, given in zip(_tensors(self.work.segments), _tensors(segments), strict=True):
            into.copy_(given)
        self.graph.replay()
        return Rows(self.work.rows.clone(), self.work.found.profile.clone())


def _cloned(cond: Conditioning) -> Conditioning:
    return Conditioning(cond.cross.clone(), cond.mask.clone(), cond.globals_.clone())


def _tensors(segments: Segments) -> tuple[Tensor, ...]:
    cond = segments.cond
    return segments.latents, segments.mask, cond.cross, cond.mask, cond.globals_
