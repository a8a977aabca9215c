"""The passes of `gradients_each`, recorded once as a CUDA graph and replayed.

For models so small that launching their kernels takes longer than the kernels. A graph holds the activations of its
passes, so it is for a few windows of a small model; larger ones gain nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from worker.attribution.gradients import Rows, Work
from worker.attribution.measure import require_ready
from worker.attribution.types import Conditioning, Segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from worker.attribution.gradients import Request
    from worker.attribution.types import Model

_WARMUPS = 3


@dataclass(frozen=True)
class Recorded:
    """Recorded passes: the work, which holds all that they read and write, and the graph."""

    work: Work
    graph: torch.cuda.CUDAGraph

    @staticmethod
    def of(model: Model, segments: Segments, requests: Sequence[Request], groups: int) -> Recorded:
        """Record the rows of segments of this shape; needs a GPU, and no other work on it meanwhile."""
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
        with torch.cuda.graph(graph):
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
