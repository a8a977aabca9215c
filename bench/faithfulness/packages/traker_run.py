"""TRAK (arXiv 2303.14186) by its authors' package: `python -m bench.faithfulness.packages.traker_run WORK`.

Needs `pip install traker` (MIT) beside the project. Gradients, projection, kernel and scores are the package's own, by
`trak.TRAKer`; its model output function is here the denoising loss itself, so that the factor from output to loss is
one. Its ridge term is told relative to the kernel's mean eigenvalue.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from trak import TRAKer
from trak.modelout_functions import AbstractModelOutput
from trak.projectors import BasicProjector, ProjectionType
from trak.score_computers import BasicScoreComputer

from bench.faithfulness.packages.common import (
    Cost,
    Found,
    Settings,
    Work,
    add,
    asked,
    plain_arithmetic,
    segment_loss,
    song_scores,
    tensors,
    timed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.attribution.measure import Probe
    from worker.attribution.types import Segments

QUERIES = "queries"


class DenoisingLoss(AbstractModelOutput):
    """The package's model output function: the loss of one segment over fixed draws."""

    def __init__(self, work: Work, probe: Probe) -> None:
        self.model, self.probe = work.model, probe

    def get_output(
        self, _module: torch.nn.Module, weights: Mapping[str, Tensor], _buffers: object, *row: Tensor
    ) -> Tensor:
        """Return the loss of one segment under `weights`."""
        return segment_loss(self.model, dict(weights), row, self.probe)

    def get_out_to_loss_grad(
        self, _module: torch.nn.Module, _weights: object, _buffers: object, batch: Sequence[Tensor]
    ) -> Tensor:
        """Return ∂loss/∂output = 1 of every segment: [b, 1]."""
        return torch.ones(len(batch[0]), 1, device=batch[0].device)


class RelativeRidge(BasicScoreComputer):
    """The package's score computer with λ = damping × the kernel's mean eigenvalue."""

    def __init__(self, *args: object, damping: float = 0.0, **named: object) -> None:
        super().__init__(*args, **named)
        self.damping = damping

    def get_x_xtx_inv(self, grads: Tensor, xtx: Tensor) -> Tensor:
        """Return the features, after setting the ridge term."""
        self.lambda_reg = self.damping * float(xtx.diagonal().mean())
        return super().get_x_xtx_inv(grads, xtx)


@dataclass(frozen=True)
class Trak:
    """One run of the package: the work, how to run, the projected dimension, the relative damping."""

    work: Work
    settings: Settings
    dim: int
    damping: float

    def run(self) -> Found:
        """Featurize the training set, score the queries."""
        with tempfile.TemporaryDirectory() as folder:
            traker = self._traker(folder)
            device, queries = self.settings.device, len(self.work.queries)
            _, index_s = timed(device, partial(self._featurize, traker))
            scores, query_s = timed(device, partial(self._score, traker))
            stored = traker.saver.current_store["features"]
            cost = Cost(index_s, query_s / queries, stored.nbytes // len(stored))
            by_songs = song_scores(torch.tensor(scores), self.work.song, self.work.songs)
        return Found(f"traker,dim={self.dim},damping={self.damping:g}", by_songs, cost)

    def _traker(self, folder: str) -> TRAKer:
        device, size = self.settings.device, self.work.size
        block = min(100, self.dim // 2)  # the package forgets a projection that is a single block
        projector = BasicProjector(size, self.dim, 0, ProjectionType.rademacher, device, block)
        return TRAKer(
            self.work.model.module, DenoisingLoss(self.work, self.settings.probe()), len(self.work.training), folder,
            device=device, projector=projector, score_computer=partial(RelativeRidge, damping=self.damping),
            proj_dim=self.dim, use_half_precision=False, grad_wrt=self.work.learned, logging_level="WARNING",
        )  # fmt: skip

    def _featurize(self, traker: TRAKer) -> None:
        traker.load_checkpoint(self.work.model.module.state_dict(), model_id=0)
        for part in self._batches(self.work.training):
            traker.featurize(part, num_samples=len(part[0]))
        traker.finalize_features()

    def _score(self, traker: TRAKer) -> Tensor:
        state = self.work.model.module.state_dict()
        traker.start_scoring_checkpoint(QUERIES, state, model_id=0, num_targets=len(self.work.queries))
        for part in self._batches(self.work.queries):
            traker.score(part, num_samples=len(part[0]))
        return traker.finalize_scores(QUERIES)

    def _batches(self, segments: Segments) -> list[tuple[Tensor, ...]]:
        columns = [x.to(self.settings.device).split(self.settings.batch) for x in tensors(segments)]
        return list(zip(*columns, strict=True))


def main() -> None:
    """Run every projected dimension under every damping."""
    folder, settings = asked(__doc__, ("traker",))
    work = Work.load(folder, settings.device)
    with plain_arithmetic():
        for dim in settings.dims:
            for damping in settings.dampings:
                add(folder, Trak(work, settings, dim, damping).run())


if __name__ == "__main__":
    main()
