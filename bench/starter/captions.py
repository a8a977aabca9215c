"""Facts heard in the audio, put into words: tempo, key, brightness, loudness, attack. Never artist or title."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RATE = 24000
HOP = 512
N_FFT = 2048
PITCH_FFT = 8192
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Probe-tone profiles of the major and the minor key (Krumhansl and Kessler, 1982).
MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
WORDS = {
    "centroid_hz": ("dark", "warm", "bright"),
    "level_db": ("quiet", "moderate", "loud"),
    "attack": ("flowing", "steady", "percussive"),
}


@dataclass(frozen=True)
class Facts:
    """What can be measured: beats a minute, key, spectral centroid (Hz), level (dB), attack (relative flux)."""

    tempo: float
    key: str
    centroid_hz: float
    level_db: float
    attack: float


def facts(samples: Tensor) -> Facts:
    """Measure one mono excerpt [n] at 24 kHz."""
    magnitude = _magnitude(samples, N_FFT)
    frequencies = np.fft.rfftfreq(N_FFT, 1 / RATE)
    flux = np.maximum(np.diff(np.log1p(magnitude), axis=1), 0).mean(0)
    return Facts(
        tempo=_tempo(flux),
        key=_key(_magnitude(samples, PITCH_FFT).mean(1)),
        centroid_hz=float((frequencies[:, None] * magnitude).sum() / (magnitude.sum() + 1e-9)),
        level_db=float(20 * np.log10(samples.square().mean().sqrt().item() + 1e-9)),
        attack=float(flux.std() / (flux.mean() + 1e-9)),
    )


def captions(measured: list[Facts], among: list[Facts]) -> list[str]:
    """One caption a song; 'bright', 'loud' and 'percussive' say in which third of the songs `among` it lies."""
    thirds = {name: np.quantile([getattr(f, name) for f in among], [1 / 3, 2 / 3]) for name in WORDS}
    return [
        f"{_pace(f.tempo)} {' '.join(_word(name, getattr(f, name), thirds[name]) for name in WORDS)} "
        f"music in {f.key} about {round(f.tempo / 10) * 10} bpm"
        for f in measured
    ]


def _word(name: str, value: float, thirds: np.ndarray) -> str:
    return WORDS[name][int((value > thirds).sum())]


def _pace(tempo: float) -> str:
    return "slow" if tempo < 90 else "fast" if tempo > 130 else "medium"


def _tempo(flux: np.ndarray) -> float:
    """The lag of the strongest autocorrelation between 60 and 180 beats a minute, weighted towards 120."""
    centred = flux - flux.mean()
    correlation = np.correlate(centred, centred, "full")[len(flux) - 1 :]
    lags = np.arange(int(60 / 180 * RATE / HOP), int(60 / 60 * RATE / HOP) + 1)
    tempi = 60 * RATE / HOP / lags
    weight = np.exp(-0.5 * (np.log2(tempi / 120) / 0.7) ** 2)
    return float(tempi[np.argmax(correlation[lags] * weight)])


def _key(spectrum: np.ndarray) -> str:
    frequencies = np.fft.rfftfreq(PITCH_FFT, 1 / RATE)
    audible = (frequencies > 100) & (frequencies < 2000)
    pitch = np.round(69 + 12 * np.log2(frequencies[audible] / 440)).astype(int)
    notes = np.bincount(pitch, spectrum[audible]) / np.maximum(np.bincount(pitch), 1)
    chroma = np.bincount(np.arange(len(notes)) % 12, notes, 12)
    scores = {
        f"{NOTES[root]} {mode}": np.corrcoef(chroma, np.roll(profile, root))[0, 1]
        for mode, profile in (("major", MAJOR), ("minor", MINOR))
        for root in range(12)
    }
    return max(scores, key=lambda name: scores[name])


def _magnitude(samples: Tensor, size: int) -> np.ndarray:
    spectrum = torch.stft(samples, size, HOP, window=torch.hann_window(size), return_complex=True)
    return np.asarray(spectrum.abs())
