"""A pretrained music tagger's embeddings: `python -m bench.faithfulness.tagger SONGS WORK --python TAGGER_PYTHON`.

A rival that knows nothing of the model: how alike do a track and a song sound to a network trained to tag music? The
network is musicnn (Pons & Serra, arXiv 1909.06654; package and weights ISC), which has an environment of its own:

    python3.11 -m venv build/tagger-venv
    build/tagger-venv/bin/pip install tensorflow-cpu==2.15.1 "librosa<0.12" soundfile "numpy<2"
    build/tagger-venv/bin/pip install --no-deps musicnn==0.1.0

SONGS holds the recordings as `bench.starter.fetch` unpacked them. Queries of WORK/queries.json are read from
WORK/audio/ID.wav; a window of a held-out song that is not there is cut from the song. WORK/tagger.safetensors gets
`songs` [training windows, d], song after song, and, where there are queries, `queries` [q, d].
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.starter.captions import RATE
from bench.starter.prepare import CHANNELS, PHASES, SEGMENT_FRAMES, SEGMENTS, STACK, excerpt
from bench.starter.songs import Song, split
from worker.diffusion.spectral import SpectralAutoencoder

import torchaudio.functional as taf  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUNNER = Path(__file__).parent / "packages" / "musicnn_run.py"
TAGGER_RATE, TAGGER_HOP = 16_000, 256
WINDOW, PATCH, STEP = 640, 187, 151  # frames of the tagger: 10.24 s, 3 s; 640 = 3 · 151 + 187
PATCHES = (WINDOW - PATCH) // STEP + 1
PERIOD = (PATCHES + 1) * STEP
PER_FILE = 12


@dataclass(frozen=True)
class Tagger:
    """The interpreter that has musicnn, and the name of the network."""

    python: Path
    net: str = "MSD_musicnn"

    def embed(self, windows: Tensor) -> Tensor:
        """Return the mean penultimate activations over the patches of every window [n, samples at RATE]: [n, d]."""
        lower = taf.resample(windows, RATE, TAGGER_RATE)
        with tempfile.TemporaryDirectory() as folder:
            counts = []
            for number, part in enumerate(lower.split(PER_FILE)):
                soundfile.write(Path(folder) / f"{number:04d}.wav", packed(part).numpy(), TAGGER_RATE, "FLOAT")
                counts.append(len(part))
            step_s = (STEP + 1.5) * TAGGER_HOP / TAGGER_RATE  # the package counts frames less one, rounded down
            command = [self.python, RUNNER, folder, self.net, f"{step_s:.6f}"]
            quiet = {**os.environ, "PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=quiet)
            return unpacked(torch.from_numpy(np.load(Path(folder) / "embeddings.npy")), counts)


def packed(windows: Tensor) -> Tensor:
    """Join windows [n, samples] at the tagger's rate into one recording: each begins a multiple of PERIOD frames in.

    Patches every STEP frames then fall PATCHES to a window, from its beginning to its end, and one across the silence
    to the next window. Behind the last window lies as much silence as makes its last patch of this kind too.
    """
    period, length = PERIOD * TAGGER_HOP, WINDOW * TAGGER_HOP
    kept = torch.nn.functional.pad(windows[:, :length], (0, period - min(length, windows.shape[1])))
    return torch.nn.functional.pad(kept.flatten(), (0, (PATCH - 2) * TAGGER_HOP))


def unpacked(patches: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the mean over each window's patches [Σ patches of every file, d]: [Σ counts, d].

    `counts` are the windows of every file. Raises ValueError for another number of patches, or NaN.
    """
    if len(patches) != sum(counts) * (PATCHES + 1) or not bool(patches.isfinite().all()):
        raise ValueError(f"{len(patches)} patches, some perhaps not finite, of {sum(counts)} windows")
    return patches.unflatten(0, (-1, PATCHES + 1))[:, :PATCHES].mean(1)


def windows_of(song: Song, folder: Path) -> Tensor:
    """Return the windows of the song's excerpt, as the model was trained on them: [SEGMENTS, samples at RATE]."""
    hop = SpectralAutoencoder(latent_channels=CHANNELS, stack=STACK).hop_length
    length = SEGMENT_FRAMES * SEGMENTS * hop
    return excerpt(song, folder, length + hop * (PHASES - 1) // PHASES).samples[:length].unflatten(0, (SEGMENTS, -1))


@dataclass(frozen=True)
class Recordings:
    """Where queries' sound is: WORK/audio, and the held-out songs by their keys below `songs`."""

    audio: Path
    songs: Path
    held_out: Mapping[str, Song]

    def window(self, row: Mapping[str, str | None]) -> Tensor:
        """Return the sound of a query [samples at RATE]; queries of one sound under two conditions may share a file.

        Raises FileNotFoundError where there is none, ValueError for another rate.
        """
        name = str(row["id"])
        path = next((p for p in map(self._path, (name, twin(name))) if p.exists()), None)
        if path is None and row["song"] is None:
            raise FileNotFoundError(f"{self._path(name)} is not there")
        if path is None:
            return windows_of(self.held_out[str(row["song"])], self.songs)[int(name.rsplit("-", 2)[1])]
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        if rate != RATE:
            raise ValueError(f"{path} has {rate} samples a second, not {RATE}")
        return torch.from_numpy(samples.mean(1))

    def _path(self, name: str) -> Path:
        return self.audio / f"{name}.wav"


def twin(name: str) -> str:
    """Return the id of the same sound under its caption for an id of the null condition."""
    return f"{name.removesuffix('-null')}-caption" if name.endswith("-null") else name


def fitted(windows: Sequence[Tensor]) -> Tensor:
    """Stack windows, cut or padded with silence to the model's length: [n, samples at RATE]."""
    length = WINDOW * TAGGER_HOP * RATE // TAGGER_RATE
    return torch.stack([torch.nn.functional.pad(w[:length], (0, max(0, length - len(w)))) for w in windows])


def sounds(work: Path, recordings: Recordings) -> tuple[Tensor, list[int]]:
    """Return every sound of WORK's queries once [sounds, samples at RATE], and which of them each query is [q]."""
    rows = json.loads((work / "queries.json").read_text())
    first = {twin(row["id"]): row for row in reversed(rows)}
    windows = fitted([recordings.window(row) for row in first.values()])
    return windows, [list(first).index(twin(row["id"])) for row in rows]


def main() -> None:
    """Embed the training windows, and the queries where there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("songs", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--python", type=Path, default=Path("build/tagger-venv/bin/python"))
    parser.add_argument("--net", choices=("MTT_musicnn", "MSD_musicnn"), default="MSD_musicnn")
    options = parser.parse_args()
    tagger, songs = Tagger(options.python, options.net), split()
    made = {"songs": tagger.embed(fitted([w for s in songs.trained for w in windows_of(s, options.songs)]))}
    if (options.work / "queries.json").exists():
        held_out = {song.key: song for song in songs.held_out}
        windows, place = sounds(options.work, Recordings(options.work / "audio", options.songs, held_out))
        made["queries"] = tagger.embed(windows)[place]
    options.work.mkdir(parents=True, exist_ok=True)
    save_file({name: x.contiguous() for name, x in made.items()}, options.work / "tagger.safetensors")
    print({name: tuple(x.shape) for name, x in made.items()})


if __name__ == "__main__":
    main()
