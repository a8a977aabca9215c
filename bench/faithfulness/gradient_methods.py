"""Every method that is a function of inner products of gradients, computed without a model or a GPU.

    τ(q, i) = k_q (K + λ tr(K)/n · I)⁻¹ e_i,      K = G Gᵀ [n, n],  k_q = G g_q

which equals g_qᵀ (GᵀG + λ tr(K)/n · I)⁻¹ g_i by the push-through identity, for rows of millions of numbers as for
projected ones (tested). λ is relative to the mean eigenvalue of K.

    gradient-dot      g_q · g_i of the loss                              (TracIn at one checkpoint, arXiv 2002.08484)
    gradient-cosine   the same at unit length
    loss-kernel       τ of the loss, unprojected                         (influence with the Gauss-Newton-like GᵀG)
    trak              τ of the projected loss                            (arXiv 2303.14186)
    d-trak-v          τ of the squared v-prediction                      (arXiv 2311.00500)
    d-trak-eps        τ of the squared noise prediction                  (the same; its own choice of output)

TRAK weighs segment i by Q_i = ∂L_i/∂f_i, the slope of the training loss in the model output function f. Here f is the
denoising loss itself, so Q_i = 1; D-TRAK sets Q = 1 by definition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.faithfulness.gradients_gram import Grams, Kernel, gram
from worker.attribution.influence import by_song

if TYPE_CHECKING:
    from worker.shards import Bytes


@dataclass(frozen=True)
class Estimator:
    """One method of this family and its settings.

    measure: name of a Gram; damping: λ, None for plain inner products; unit: rows at unit length; bands: a weight for
    every band of noise, None for the mean; keep: the fraction of a query's segment scores that thresholding keeps,
    the largest in size; soft: subtract the threshold from those kept, as TRAK does.
    """

    measure: str
    damping: float | None = None
    unit: bool = False
    bands: tuple[float, ...] | None = None
    keep: float = 1.0
    soft: bool = False


METHODS = {
    "gradient-dot": Estimator("loss"),
    "gradient-cosine": Estimator("loss", unit=True),
    "loss-kernel": Estimator("loss", damping=1.0),
    "trak": Estimator("loss@2048-0", damping=1.0),
    "d-trak-v": Estimator("squared_output", damping=0.3, unit=True),
    "d-trak-eps": Estimator("squared_noise", damping=0.3, unit=True),
}


def projected_name(measure: str, dim: int, seed: int) -> str:
    """Return the name of the Gram of rows projected to `dim` numbers by `seed`."""
    return f"{measure}@{dim}-{seed}"


def projected(method: Estimator, dim: int, seed: int) -> Estimator:
    """Return the same method on projected rows."""
    return replace(method, measure=projected_name(method.measure.partition("@")[0], dim, seed))


def solved(kernel: Kernel, damping: float | None) -> Tensor:
    """Return τ [q, n] of `kernel`; without damping its plain inner products. Raises ValueError for damping ≤ 0."""
    if damping is None:
        return kernel.cross
    if not damping > 0:
        raise ValueError(f"undamped division is refused: damping must be above 0, got {damping}")
    damped = kernel.songs.clone()
    damped.diagonal().add_(damping * float(damped.diagonal().mean()))
    return torch.cholesky_solve(kernel.cross.mT, torch.linalg.cholesky(damped)).mT


def segment_scores(grams: Grams, method: Estimator) -> Tensor:
    """Return the score of every training segment for every query: [q, n] float64."""
    weights = None if method.bands is None else torch.tensor(method.bands, dtype=torch.float64)
    kernel = grams.named[method.measure].kernel(weights)
    scores = solved(kernel.unit() if method.unit else kernel, method.damping)
    return thresholded(scores, method.keep, method.soft)


def song_scores(grams: Grams, method: Estimator) -> Tensor:
    """Return the score of every song for every query: [q, songs] float32."""
    return by_song(segment_scores(grams, method), grams.song, grams.weight, grams.songs).float()


def kernel_scores(
    grams: Grams,
    measure: str,
    damping: float | None = None,
    unit: bool = False,
    bands: tuple[float, ...] | None = None,
) -> Tensor:
    """Return `song_scores` of one kernel without thresholding: [q, songs] float32."""
    return song_scores(grams, Estimator(measure, damping, unit, bands))


def thresholded(scores: Tensor, keep: float, soft: bool = False) -> Tensor:
    """Return scores [q, n] with all but the fraction `keep` that is largest in size set to zero, query by query.

    Soft: what is kept comes closer to zero by the threshold (TRAK, arXiv 2303.14186, §3). Raises ValueError for a
    fraction outside of (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"the kept fraction lies in (0, 1]: got {keep}")
    count = max(1, round(keep * scores.shape[-1]))
    if count == scores.shape[-1]:
        return scores
    size = scores.abs()
    edge = size.kthvalue(scores.shape[-1] - count, dim=-1, keepdim=True).values
    kept = torch.where(size > edge, scores, 0.0)
    return kept - edge * kept.sign() if soft else kept


def kernel_of_rows(songs: Bytes, queries: Bytes) -> Kernel:
    """Return the inner products of the mean over bands of kept projected rows [B, n, k] and [B, q, k]."""
    return gram(songs.floats(), queries.floats()).kernel()


def diagonal_first_order(songs: Tensor, queries: Tensor, fisher: Tensor, damping: float) -> Tensor:
    """Return ⟨g_i, (F + λ mean F)⁻¹ g_q⟩ for rows songs [n, p] and queries [q, p], Fisher diagonal [p]: [q, n].

    This is the first order of `finite-step` unlearning ("diagonal-first-order"). Raises ValueError for damping ≤ 0.
    """
    if not damping > 0:
        raise ValueError(f"undamped division is refused: damping must be above 0, got {damping}")
    return (queries / (fisher + damping * fisher.mean(dtype=torch.float64).to(fisher))) @ songs.mT
