"""From rows of gradients to ranked songs.

    τ(ẑ, x_i) = ∇M(x_i)ᵀ C⁻¹ ∇M(ẑ)           (influence function, arXiv 1703.04730; projected: TRAK, 2303.14186)
    τ(ẑ, song) = Σ_{i ∈ song} w_i τ(ẑ, x_i)   w_i how often training sampled the segment
    s = τ |τ|^(p − 1)                         signed power

For the denoising loss τ is itself the first-order change. For a squared prediction it is how far losing the song moves
the predictions on ẑ; the loss, near its minimum there, grows with the square of that, hence p = 2. The sum over
segments predicts what removing the whole song would do; intensity per minute is another number.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor


class RowScale(StrEnum):
    """What is done to every row, of songs and queries alike, before it meets the curvature."""

    NONE = "none"
    UNIT = "unit"


def scale_rows(rows: Tensor, scale: RowScale) -> Tensor:
    """Return rows [..., k] as they are or at unit length; a row of zeros stays zero."""
    if scale is RowScale.NONE:
        return rows
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(length > 0, length, 1)


def signed_power(scores: Tensor, power: float) -> Tensor:
    """Return sign(s) |s|^power of each score; raises ValueError unless power is positive."""
    _need(power > 0, f"a power must be positive, got {power}")
    return scores.sign() * scores.abs().pow(power)


def pool(rows: Tensor, weights: Tensor) -> Tensor:
    """Return Σ_i w_i row_i / Σ_i w_i over the segments: rows [..., s, k], weights [s] ≥ 0 → [..., k]."""
    _need(rows.shape[-2:-1] == weights.shape, f"rows {list(rows.shape)} do not fit weights {list(weights.shape)}")
    _need(bool((weights >= 0).all()) and bool(weights.any()), "weights must be non-negative and not all zero")
    share = (weights / weights.sum()).to(rows)
    return torch.einsum("s,...sk->...k", share, rows)


def first_order(rows: Tensor, solved: Tensor) -> Tensor:
    """Return τ = solved · rowsᵀ for rows [n, k] and C⁻¹-solved queries [q, k]: [q, n]."""
    _need(rows.ndim == solved.ndim == 2 and rows.shape[1] == solved.shape[1], "rows must be [n, k] and queries [q, k]")
    return solved @ rows.mT


def by_song(scores: Tensor, song_of: Tensor, weights: Tensor, songs: int) -> Tensor:
    """Return Σ over a song's segments of weight × score: scores [..., n], song_of and weights [n] → [..., songs].

    In float64 on the CPU and in the order of the segments, so the sum is the same on every device.
    """
    _need(
        song_of.shape == weights.shape == scores.shape[-1:], "scores, song_of and weights must be of the same segments"
    )
    in_range = f"song_of must be whole numbers from 0 to {songs - 1}"
    _need(not song_of.is_floating_point() and bool((song_of >= 0).all()) and bool((song_of < songs).all()), in_range)
    weighted = scores.double().cpu() * weights.double().cpu()
    return weighted.new_zeros(*scores.shape[:-1], songs).index_add_(-1, song_of.cpu(), weighted)


def rank(scores: Tensor) -> Tensor:
    """Return the places of the songs from the highest score to the lowest, ties in their own order: [songs] long."""
    _need(scores.ndim == 1 and not bool(scores.isnan().any()), "scores must be [songs] and not NaN")
    return torch.argsort(scores, descending=True, stable=True)


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
