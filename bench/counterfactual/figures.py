"""Means over tracks, with intervals from resampling them."""

from __future__ import annotations

import numpy as np

RESAMPLES, SEED = 10_000, 20_261_125
LEVEL = 0.95


def effect(differences: list[float]) -> dict[str, float]:
    """Return mean, 95 % bootstrap interval over tracks, mean in deviations (0: all alike), and how many are above 0."""
    x = np.array(differences, dtype=np.float64)
    picks = np.random.default_rng(SEED).integers(0, len(x), (RESAMPLES, len(x)))
    low, high = np.quantile(x[picks].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {
        "mean": float(x.mean()),
        "low": float(low),
        "high": float(high),
        "in_deviations": float(x.mean() / x.std(ddof=1)) if x.std() > 0 else 0.0,
        "positive": int((x > 0).sum()),
    }


def agreement(forgotten: list[float], retrained: list[float], track: list[int]) -> dict[str, float]:
    """Compare changes by forgetting with rises by retraining: correlations, intervals over tracks, and the slope."""
    x, y, owner = np.array(forgotten), np.array(retrained), np.array(track)
    tracks, rng = np.unique(owner), np.random.default_rng(SEED)
    resampled = []
    for _ in range(RESAMPLES // 5):
        rows = np.concatenate([np.flatnonzero(owner == t) for t in rng.choice(tracks, len(tracks))])
        resampled.append(spearman(x[rows], y[rows]))
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {
        "pairs": len(x),
        "tracks": len(tracks),
        "spearman": spearman(x, y),
        "spearman_low": float(low),
        "spearman_high": float(high),
        "pearson": float(np.corrcoef(x, y)[0, 1]),
        "slope": float(x @ y / (x @ x)),
    }


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return the rank correlation, ties sharing their mean rank; NaN where one side is constant."""
    a, b = ranks(x), ranks(y)
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def ranks(x: np.ndarray) -> np.ndarray:
    """Return ranks from 0, ties sharing the mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    first = np.concatenate([[0], counts.cumsum()[:-1]])
    return (first + (counts - 1) / 2)[inverse]
