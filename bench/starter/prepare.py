"""Songs in, training data out: `python -m bench.starter.prepare build/songs build/starter`.

Cuts one contiguous excerpt a song, measures captions, fits the autoencoder on the excerpts, encodes them.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.starter.captions import RATE, captions, facts
from bench.starter.songs import Song, training_songs
from worker.diffusion.spectral import SpectralAutoencoder  # first: it makes torchaudio importable

import torchaudio.functional as taf  # isort: skip

SEGMENT_FRAMES = 240
SEGMENTS = 4
COLUMNS = ("key", "title", "artist", "licence", "package", "path", "duration_s", "caption", "start_s", "isrc")


@dataclass(frozen=True)
class Excerpt:
    """The part of a song that is trained on: mono samples [n] at 24 kHz and where in the song they begin."""

    song: Song
    start_s: float
    samples: Tensor


def excerpt(song: Song, folder: Path, length: int) -> Excerpt:
    """Read `length` samples from a quarter into the song."""
    with soundfile.SoundFile(song.file(folder)) as file:
        start = min(song.duration_s * 0.25, song.duration_s - length / RATE - 0.5)
        file.seek(int(start * file.samplerate))
        raw = file.read(int((length / RATE + 0.25) * file.samplerate), dtype="float32", always_2d=True)
        samples = taf.resample(torch.from_numpy(raw.mean(1)), file.samplerate, RATE)[:length]
    if len(samples) < length:
        raise SystemExit(f"{song.key}: shorter than its catalogue entry says")
    return Excerpt(song, round(start, 3), samples)


def rows(excerpts: list[Excerpt], words: list[str]) -> list[dict[str, str]]:
    """The song facts that ship with the model."""
    return [
        dict(zip(COLUMNS, (e.song.key, e.song.title, e.song.artist, e.song.licence, e.song.package, e.song.path,
                           f"{e.song.duration_s:.1f}", caption, f"{e.start_s:.3f}", ""), strict=True))
        for e, caption in zip(excerpts, words, strict=True)
    ]  # fmt: skip


def main() -> None:
    """Write songs.csv, the fitted autoencoder, the latents and the facts into the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("songs", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    autoencoder = SpectralAutoencoder()
    length = SEGMENT_FRAMES * SEGMENTS * autoencoder.hop_length
    excerpts = [excerpt(song, options.songs, length) for song in training_songs()]
    words = captions([facts(e.samples) for e in excerpts])
    waves = torch.stack([e.samples for e in excerpts])[:, None]
    features = torch.cat([autoencoder.features(wave[None]) for wave in waves])
    autoencoder.fit(features.transpose(0, 1).flatten(1))
    latents = torch.cat([autoencoder.encode(wave[None]).latent_dist.mode() for wave in waves])
    options.out.mkdir(parents=True, exist_ok=True)
    autoencoder.save_pretrained(options.out / "pipeline" / "vae")
    save_file({"latents": latents.contiguous()}, options.out / "latents.safetensors")
    with (options.out / "songs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(excerpts, words))
    (options.out / "prepared.json").write_text(json.dumps({"songs": len(excerpts), "frames": latents.shape[-1]}))
    print(f"{len(excerpts)} songs, latents {tuple(latents.shape)}, std {latents.std():.2f}")


if __name__ == "__main__":
    main()
