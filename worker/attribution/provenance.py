"""Whether a track is the registered model's at all: a latent diffusion model's own tracks survive its autoencoder.

    D(x) = mean over frequencies and musical frames of |log(|X| + ϱ|X|‾) − log(|X̂| + ϱ|X|‾)|,   x̂ = decode(encode(x))

X, X̂ are short-time spectra, |X|‾ the mean magnitude, ϱ = 0.01. What the decoder made it can make again, so D is small;
a recording holds what the autoencoder cannot say (AEROBLADE, arXiv 2401.17879, for images). The probability is logistic
in log D. It cannot tell models apart that share an autoencoder, nor a recording that was passed through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Literal

import torch
from torch import Tensor

Verdict = Literal["own", "foreign", "unsure", "unknown"]
FLOOR = 0.01
TRANSFORM, STRIDE = 2048, 512
OWN, FOREIGN = 0.9, 0.1
_LEAST = 1e-6


@dataclass(frozen=True)
class Provenance:
    """Whose track it seems to be, and the fitted probability that it is the model's own; None where unknown."""

    verdict: Verdict
    probability: float | None


UNKNOWN = Provenance("unknown", None)


@dataclass(frozen=True)
class Gate:
    """p = 1 / (1 + exp(−(intercept + slope · log D))); own from 0.9, foreign up to 0.1, unsure between."""

    intercept: float
    slope: float

    def judge(self, distance: float) -> Provenance:
        """Return the verdict on a track whose autoencoder distance D is `distance` ≥ 0."""
        logit = self.intercept + self.slope * log(max(distance, _LEAST))
        chance = 1 / (1 + exp(-max(-700.0, min(700.0, logit))))
        verdict: Verdict = "own" if chance >= OWN else "foreign" if chance <= FOREIGN else "unsure"
        return Provenance(verdict, chance)


def fit_gate(distances: Tensor, own: Tensor, weights: Tensor, ridge: float = 0.01) -> Gate:
    """Fit the gate to distances [n] of tracks that are the model's `own` [n] bool, `weights` [n] ≥ 0 (Newton's method).

    The slope is held back by ridge/2 · slope², so that classes apart do not send it to infinity. Raises ValueError
    unless both kinds have weight.
    """
    x, y, w = distances.double().clamp(min=_LEAST).log(), own.double(), weights.double()
    if not float((w * y).sum()) > 0 or not float((w * (1 - y)).sum()) > 0:
        raise ValueError("a gate is fitted on own tracks and on others")
    centre = (w * x).sum() / w.sum()
    design = torch.stack([torch.ones_like(x), x - centre], 1)
    penalty = torch.diag(torch.tensor([0.0, ridge], dtype=torch.float64))
    found = torch.zeros(2, dtype=torch.float64)
    for _ in range(100):
        chance = torch.sigmoid(design @ found)
        gradient = design.mT @ (w * (y - chance)) - penalty @ found
        curvature = (design * (w * chance * (1 - chance))[:, None]).mT @ design + penalty
        step = torch.linalg.solve(curvature + 1e-9 * torch.eye(2, dtype=torch.float64), gradient)
        found = found + step * min(1.0, 2.0 / float(step.norm().clamp(min=1e-12)))
    return Gate(float(found[0] - found[1] * centre), float(found[1]))


def spectral_distance(audio: Tensor, rebuilt: Tensor, mask: Tensor) -> float:
    """Return D of windows audio, rebuilt [s, ch, n], frames of music [s, f]; raises ValueError where there is no music.

    Every window is set against its own mean magnitude, and counts by its music.
    """
    spectra, other = (_magnitude(x) for x in (audio, rebuilt))
    frames = spectra.shape[-1]
    place = (torch.arange(frames) * mask.shape[1] // frames).clamp(max=mask.shape[1] - 1)
    music = mask.to(spectra)[:, place][:, None, None]
    weight = music.sum() * spectra.shape[1] * spectra.shape[2]
    if not float(weight) > 0:
        raise ValueError("no frame holds music")
    cells = (music.sum((1, 2, 3)) * spectra.shape[1] * spectra.shape[2]).clamp(min=1)
    floor = (FLOOR * (spectra * music).sum((1, 2, 3)) / cells).clamp(min=_LEAST)[:, None, None, None]
    apart = ((spectra + floor).log() - (other + floor).log()).abs()
    return float((apart * music).sum() / weight)


def _magnitude(audio: Tensor) -> Tensor:
    window = torch.hann_window(TRANSFORM, device=audio.device)
    flat = torch.stft(audio.flatten(0, 1).float(), TRANSFORM, STRIDE, window=window, return_complex=True).abs()
    return flat.view(*audio.shape[:2], *flat.shape[1:])
