"""Attributors of the package dattri (arXiv 2410.04555): `python -m bench.faithfulness.packages.dattri_run WORK`.

Needs `pip install dattri` (MIT) beside the project. Gradients, projections and scores are the package's own:

    dattri-trak      `TRAKAttributor` on the denoising loss, its factor 1 − p being one
    dattri-graddot   `TracInAttributor` at the trained model, with and without unit gradients
    dattri-datainf   `IFAttributorDataInf`, all weights, no projection

The package takes damping as a number; here it is relative: to the kernel's mean eigenvalue (TRAK), to the mean squared
gradient over the number of layers (DataInf). Both are measured by the package's own `self_attribute`.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import torch
from dattri.algorithm import IFAttributorDataInf, TracInAttributor, TRAKAttributor
from dattri.task import AttributionTask
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from bench.faithfulness.packages.common import (
    FIXED,
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
    from collections.abc import Iterator, Mapping, Sequence

    from worker.attribution.types import Segments

FLOAT = 4
DATAINF_QUERIES = 24  # DataInf holds [queries in a batch, queries in a batch, numbers of one layer]
METHODS = ("trak", "graddot", "datainf")


class Dattri:
    """The package set to one work: `task` knows the model and the loss, the loaders know the segments."""

    def __init__(self, work: Work, settings: Settings) -> None:
        self.work, self.settings = work, settings
        self.probe = settings.probe()
        for name, weight in work.model.module.named_parameters():
            weight.requires_grad_(not name.endswith(FIXED))
        self.task = AttributionTask(self.loss, work.model.module, work.model.module.state_dict())

    def loss(self, params: Mapping[str, Tensor], row: Sequence[Tensor]) -> Tensor:
        """Return the loss of one segment under `params`."""
        return segment_loss(self.work.model, params, row, self.probe)

    def loader(self, segments: Segments, batch: int) -> DataLoader:
        """Return the segments in order."""
        return DataLoader(TensorDataset(*tensors(segments)), batch)

    def projector(self, dim: int) -> dict[str, object]:
        """Return what the package's random projection is told."""
        return {"proj_dim": dim, "proj_max_batch_size": 32, "proj_seed": 0, "proj_type": "normal",
                "device": self.settings.device}  # fmt: skip

    def graddot(self, dim: int, unit: bool) -> TracInAttributor:
        """Return the attributor by inner products of projected gradients."""
        ones = torch.ones(1)
        return TracInAttributor(self.task, ones, unit, self.projector(dim), device=self.settings.device)

    def squared_gradient(self, dim: int) -> float:
        """Return the mean over the training set of the squared length of the projected gradient."""
        return float(self.graddot(dim, False).self_attribute(self._training()).mean())

    def traks(self, dim: int) -> Iterator[Found]:
        """Run TRAK in `dim` numbers under every damping."""
        n, device = len(self.work.training), self.settings.device
        mean_eigenvalue = n * self.squared_gradient(dim) / self.work.size / dim
        for damping in self.settings.dampings:
            trak = TRAKAttributor(
                self.task, lambda _params, row: row[0].new_zeros(()), self.projector(dim), device=device,
                regularization=damping * mean_eigenvalue,
            )  # fmt: skip
            _, index_s = timed(device, partial(trak.cache, self._training()))
            scores, query_s = timed(device, partial(trak.attribute, self._asked()))
            cost = (index_s, query_s, dim * FLOAT)
            yield self._found(f"dattri-trak,dim={dim},damping={damping:g}", scores, cost)

    def graddots(self, dim: int) -> Iterator[Found]:
        """Run inner products in `dim` numbers, of gradients as they are and of unit length."""
        for unit in (False, True):
            run = partial(self.graddot(dim, unit).attribute, self._training(), self._asked())
            scores, query_s = timed(self.settings.device, run)
            yield self._found(f"dattri-graddot,dim={dim},unit={int(unit)}", scores, (0.0, query_s, 0))

    def datainfs(self) -> Iterator[Found]:
        """Run DataInf under every damping."""
        device, batch = self.settings.device, self.settings.batch
        layers = len({name.rpartition(".")[0] for name in self.work.learned})
        # The package divides projections by √dim, so their expected squared length is that of the gradient itself.
        scale = self.squared_gradient(self.settings.dims[0]) / layers
        datainf = IFAttributorDataInf(self.task, device=device)
        _, index_s = timed(device, partial(datainf.cache, self._training()))
        for damping in self.settings.dampings:
            datainf.regularization = damping * scale
            queries = self.loader(self.work.queries, min(batch, DATAINF_QUERIES))
            run = partial(datainf.attribute, self._training(), queries)
            scores, query_s = timed(device, run)
            yield self._found(f"dattri-datainf,damping={damping:g}", scores, (index_s, query_s, self.work.size * FLOAT))

    def _found(self, name: str, scores: Tensor, cost: tuple[float, float, int]) -> Found:
        index_s, query_s, kept = cost
        by_songs = song_scores(scores.detach().cpu(), self.work.song, self.work.songs)
        return Found(name, by_songs, Cost(index_s, query_s / len(self.work.queries), kept))

    def _training(self) -> DataLoader:
        return self.loader(self.work.training, self.settings.batch)

    def _asked(self) -> DataLoader:
        return self.loader(self.work.queries, self.settings.batch)


def main() -> None:
    """Run the attributors under every setting."""
    folder, settings = asked(__doc__, METHODS)
    dattri = Dattri(Work.load(folder, settings.device), settings)
    runs = {"trak": dattri.traks, "graddot": dattri.graddots}
    with plain_arithmetic():
        for method, dim in product([m for m in settings.methods if m in runs], settings.dims):
            for found in runs[method](dim):
                add(folder, found)
        for found in dattri.datainfs() if "datainf" in settings.methods else ():
            add(folder, found)


if __name__ == "__main__":
    main()
