"""Finite-step mirrored unlearning of every query, by any curvature (AbU, arXiv 2406.09408; music: 2506.18312).

    θ′ = θ₀ + r ‖θ₀‖ d/‖d‖,   d = F⁻¹ ∇L(ẑ; θ₀),      Δ_i = L(x_i; θ′) − L(x_i; θ₀)

With the diagonal Fisher this is "finite-step", with EK-FAC "abu-ekfac". Everything runs in float32 without TF32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bench.faithfulness.gradients_draws import Draws
from worker.attribution.curvature import DiagonalFisher, fisher_diagonal
from worker.attribution.gradients import mean_gradient
from worker.attribution.measure import Measure, Probe, exact_float32, values
from worker.attribution.noise import Grid
from worker.attribution.unlearn import Step, change, unlearn
from worker.manifest import IndexConfig

if TYPE_CHECKING:
    from torch import Tensor

    from bench.faithfulness.setting import Setting
    from worker.attribution.types import Params, Segments

GRID_SEED = IndexConfig().grid_seed


class Curvature(Protocol):
    """What turns a gradient into a direction of forgetting."""

    def direction(self, gradient: Params) -> dict[str, Tensor]:
        """Return F⁻¹ g, weight by weight."""
        ...


@dataclass(frozen=True)
class Forgetting:
    """How queries are forgotten and songs measured again.

    steps: relative lengths r; query_draws: of the direction's gradient; draws: of the change of every song;
    fisher_draws: of the curvature; damping: of the curvature, relative; batch: samples that share a pass.
    """

    weights: str = IndexConfig().weights
    steps: tuple[float, ...] = (1e-3,)
    query_draws: int = 256
    draws: int = 32
    fisher_draws: int = 16
    damping: float = 0.3
    batch: int = 1024


def frozen_probe(setting: Setting, draws: int, batch: int) -> Probe:
    """Return the loss over the first `draws` of the frozen grid, its noise kept on the device."""
    grid = Draws.of(Grid(GRID_SEED, draws), setting.shape, setting.device)
    return Probe(Measure.LOSS, grid, batch)


def diagonal_curvature(setting: Setting, how: Forgetting) -> DiagonalFisher:
    """Return the damped diagonal Fisher of the training segments, in float32."""
    probe = frozen_probe(setting, how.fisher_draws, min(how.batch, 256))
    with exact_float32():
        diagonal = fisher_diagonal(setting.model, setting.training, probe, how.weights)
    return DiagonalFisher.of(diagonal, how.damping)


class Mirror:
    """Forgets one query after another and says what every training segment lost."""

    def __init__(self, setting: Setting, how: Forgetting, curvature: Curvature) -> None:
        self.setting, self.how, self.curvature = setting, how, curvature
        self.query_probe = frozen_probe(setting, how.query_draws, min(how.batch, 512))
        self.probe = frozen_probe(setting, how.draws, how.batch)
        self.params = setting.model.params(how.weights)
        self.before = values(setting.model, {}, setting.training, self.probe)

    def direction(self, query: Segments) -> dict[str, Tensor]:
        """Return d = F⁻¹ ∇L(ẑ; θ₀)."""
        with exact_float32():
            gradient = mean_gradient(self.setting.model, query, self.query_probe, self.how.weights)
            return self.curvature.direction(gradient)

    def changes(self, query: int) -> dict[str, Tensor]:
        """Return Δ [n] of every training segment for every step length: "step r" → [n]."""
        direction = self.direction(self.setting.queries[query : query + 1])
        return {f"step {r:g}": self._change(unlearn(self.params, direction, Step(r))) for r in self.how.steps}

    def _change(self, after: Params) -> Tensor:
        return change(self.before, values(self.setting.model, after, self.setting.training, self.probe))
