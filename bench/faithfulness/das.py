"""Diffusion attribution score: how far a training segment moves the query's predictions (arXiv 2410.18639).

    τ(q, i) = E_d ‖J_{q,d} C⁻¹ g_i‖²,     J_{q,d} = ∂v_θ(x_{q,t_d}, t_d)/∂θ,   C = GᵀG + λ tr(GGᵀ)/n · I

g_i is the loss gradient of segment i, that is its residual times its own Jacobian. The paper's norm is taken at one
level and draw at a time and averaged afterwards, so the random directions that stand in for it must be independent
from draw to draw: with E ξ_d ξ_eᵀ = δ_de I, a group D_r of draws has

    u_r = Σ_{d ∈ D_r} J_{q,d}ᵀ ξ_d,      E_ξ (u_r · C⁻¹ g_i)² = Σ_{d ∈ D_r} ‖J_{q,d} C⁻¹ g_i‖²

One ξ shared by all draws would estimate the norm of the mean change instead. Splitting the draws into R groups costs
one backward pass over them, has the expectation of R directions over all draws, and, where draws are alike, their
variance too. In the dual, u_r · C⁻¹ g_i = [G u_r] (GGᵀ + μI)⁻¹ e_i, so only the products G u_r are kept: [q, R, n].
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.attribution.hooks import Shape, Sink, catch, frozen, selected
from worker.attribution.measure import Measure, Probe, diffuse, exact_float32, require_ready
from worker.attribution.noise import Grid

if TYPE_CHECKING:
    from bench.faithfulness.gradients_draws import Draws
    from bench.faithfulness.gradients_gram import Kernel
    from bench.faithfulness.gradients_rows import Rows, Spans
    from worker.attribution.types import Model, Segments

XI_SEED = 410_18639


def directions(draws: int, shape: tuple[int, int], repeat: int = 0) -> Tensor:
    """Return random signs ξ_d, one tensor a draw, the same for all queries: [draws, c, f]."""
    return torch.where(Grid(XI_SEED + repeat, draws).noise(shape) >= 0, 1.0, -1.0)


def output_products(model: Model, segments: Segments, probe: Probe, xi: Tensor) -> Tensor:
    """Return ⟨ξ_d, v_θ(x_t)⟩ of every sample over its unmasked entries, one over their root each: [s · draws]."""
    samples = diffuse(segments, probe.grid)
    output = model.output({}, samples.noisy, samples.level, samples.cond).to(samples.target.dtype)
    weight = samples.mask[:, None] * xi.to(output).repeat(len(segments), 1, 1)
    return (output * weight).sum((1, 2)) / (samples.mask.sum(1) * output.shape[1]).clamp(min=1).sqrt()


def jacobian_products(
    model: Model, queries: Segments, rows: Tensor, spans: Spans, plan: tuple[Draws, int, Rows]
) -> Tensor:
    """Return G u_r of every query and group of draws, [q, R, n], for training rows `rows` [n, p].

    plan: the draws, sorted so that a group is of neighbouring noise levels; R, which divides them; the rows' weights
    and batch. A gradient meets G weight by weight, inside the backward pass: no row of u is ever kept.
    """
    draws, groups, how = plan
    require_ready(model, queries)
    if draws.draws % groups:
        raise ValueError(f"{draws.draws} draws do not make {groups} equal groups")
    layers, tall = selected(model.module, how.weights), max(how.batch // draws.draws, 1)
    xi = directions(draws.draws, tuple(draws.epsilon.shape[1:])).to(model.device)
    probe, found = Probe(Measure.SQUARED_OUTPUT, draws, how.batch), []
    with frozen(model.module), exact_float32():
        for top in range(0, len(queries), tall):
            part = queries[top : top + tall].to(model.device)
            products = rows.new_zeros(len(part) * groups, len(rows))
            shape = Shape(len(part) * groups, len(part) * draws.draws)
            sink = _multiplier(products, rows, spans)
            catch(partial(output_products, model, part, probe, xi), layers, shape, sink)
            found.append(products.view(len(part), groups, -1) / draws.draws**0.5)
    return torch.cat(found)


def _multiplier(products: Tensor, rows: Tensor, spans: Spans) -> Sink:
    def add(name: str, gradient: Tensor) -> None:
        start, end = spans[name]
        products.addmm_(gradient.to(rows), rows[:, start:end].mT)

    return add


def das_scores(products: Tensor, loss: Kernel, damping: float, song: Tensor | None = None) -> Tensor:
    """Return τ [q, n] from the products G u [q, R, n] and the inner products of the training loss gradients.

    With `song` [n] the change of a whole song is squared, ‖J C⁻¹ Σ_{i ∈ song} g_i‖², and the scores are [q, songs].
    Raises ValueError for damping ≤ 0.
    """
    if not damping > 0:
        raise ValueError(f"undamped division is refused: damping must be above 0, got {damping}")
    damped = loss.songs.double().clone()
    damped.diagonal().add_(damping * float(damped.diagonal().mean()))
    flat = products.double().flatten(0, 1)
    change = torch.cholesky_solve(flat.mT, torch.linalg.cholesky(damped)).mT
    if song is not None:
        change = change.new_zeros(len(change), int(song.max()) + 1).index_add_(1, song, change)
    return change.view(*products.shape[:2], -1).square().sum(1)
