"""Short made-up tracks, each unlike the others: what is heard in them does not matter here."""

from __future__ import annotations

import io

import numpy as np
import soundfile

RATE = 8_000


def track(seed: int, seconds: float = 1.02, rate: int = RATE) -> bytes:
    """Return a WAV file of some notes with a little noise, drawn from `seed`."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    notes = draw.uniform(80, 1500, 6)[(time * 5).astype(int) % 6]
    tone = np.sin(2 * np.pi * np.cumsum(notes) / rate) + 0.05 * draw.standard_normal(len(time))
    file = io.BytesIO()
    soundfile.write(file, (0.4 * tone).astype(np.float32), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
