"""What a model that forgot one song would have made instead: how far a track's measure moves, and how far its audio.

    θ_z = θ₀ + η F⁻¹ ∇L(z; θ₀)                            the song z forgotten, η as in `unlearn.step_length`
    Δ(ẑ | z) = Σ_i w_i [L(x_i; θ_z) − L(x_i; θ₀)]         over the track's windows, draw by draw
    W(a, b) = ‖a − b‖ / ‖a‖                               of two recordings under one seed
    S(a, b) = 20 / ln 10 · D(a, b)                        dB between their log spectra, D as in `provenance`

This is forward unlearning: the song is forgotten and the track is looked at. θ₀ is read and never written.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from worker.attribution.calibrate import spread
from worker.attribution.provenance import spectral_distance

DECIBELS = 20 / log(10)
GROUPS = 4


@dataclass(frozen=True)
class Shift:
    """How far a measure moved, and where the 90 % interval over noise draws begins and ends."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Apart:
    """How far two recordings are apart: of their log spectra in dB, and of their samples relative to the first."""

    spectral_db: float
    waveform: float


def moved(before: Tensor, after: Tensor, share: Tensor) -> Tensor:
    """Return Σ_i w_i (after − before) draw by draw, in float64: before, after [s, draws], share w [s] → [draws]."""
    if before.shape != after.shape or share.shape != before.shape[:1]:
        raise ValueError(f"{list(before.shape)} before, {list(after.shape)} after, shares {list(share.shape)}")
    return share.double().to(before.device) @ (after.double() - before.double())


def shift(draws: Tensor, groups: int = GROUPS) -> Shift:
    """Return the mean over `draws` [d] and its 90 % interval from `groups` disjoint groups of them.

    It holds what other noise would change. Raises ValueError for fewer draws than groups, or than two groups.
    """
    if len(draws) < groups:
        raise ValueError(f"{len(draws)} draws do not make {groups} groups")
    exact = draws.double().cpu()
    parts = torch.stack([exact[first::groups].mean() for first in range(groups)])
    bounds = spread(exact.mean()[None], parts[:, None])
    return Shift(float(exact.mean()), float(bounds.low), float(bounds.high))


def apart(first: Tensor, second: Tensor) -> Apart:
    """Compare two recordings [ch, n] of one length; raises ValueError for others, and where the first is silent."""
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"recordings are [channels, samples] alike, not {list(first.shape)} and {list(second.shape)}")
    length = float(first.double().norm())
    if not length > 0:
        raise ValueError("nothing can be told apart from silence")
    distance = spectral_distance(first[None], second[None], torch.ones(1, 1))
    return Apart(DECIBELS * distance, float((second.double() - first.double()).norm()) / length)
