"""Songs in, training data out: `python -m bench.starter.prepare build/songs build/starter`.

Cuts one contiguous excerpt a song, measures captions, fits the autoencoder on the excerpts trained on, encodes all.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.starter.captions import RATE, captions, facts
from bench.starter.songs import Song, split
from worker.diffusion.spectral import SpectralAutoencoder  # first: it makes torchaudio importable
from worker.shards import Bytes

import torchaudio.functional as taf  # isort: skip

CHANNELS = 96
STACK = 4
SEGMENT_FRAMES = 120
SEGMENTS = 3
# Excerpts are encoded this often, half a frame apart, so that training meets music between the frames too.
PHASES = 2
HELD_OUT_WINDOWS = (0, 2)
COLUMNS = ("key", "title", "artist", "licence", "package", "path", "duration_s", "caption", "start_s", "isrc")


@dataclass(frozen=True)
class Excerpt:
    """The part of a song that is used: mono samples [n] at 24 kHz and where in the song they begin."""

    song: Song
    start_s: float
    samples: Tensor


def excerpt(song: Song, folder: Path, length: int) -> Excerpt:
    """Read `length` samples from a quarter into the song; a song that ends before them is padded with silence."""
    with soundfile.SoundFile(song.file(folder)) as file:
        start = max(0.0, min(song.duration_s * 0.25, song.duration_s - length / RATE - 0.5))
        file.seek(int(start * file.samplerate))
        raw = file.read(int((length / RATE + 0.25) * file.samplerate), dtype="float32", always_2d=True)
        samples = taf.resample(torch.from_numpy(raw.mean(1)), file.samplerate, RATE)[:length]
    return Excerpt(song, round(start, 3), torch.nn.functional.pad(samples, (0, length - len(samples))))


def phases(autoencoder: SpectralAutoencoder, samples: Tensor, frames: int) -> Tensor:
    """Latents of one excerpt's first `frames` frames, each phase later by a part of a frame: [phases, c, frames]."""
    length, step = frames * autoencoder.hop_length, autoencoder.hop_length // PHASES
    waves = torch.stack([samples[at * step : at * step + length] for at in range(PHASES)])
    return autoencoder.encode(waves[:, None]).latent_dist.mode()


def write_rows(path: Path, excerpts: list[Excerpt], words: list[str]) -> None:
    """Write the song facts that ship with the model."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for e, caption in zip(excerpts, words, strict=True):
            song = e.song
            writer.writerow([song.key, song.title, song.artist, song.licence, song.package, song.path,
                             f"{song.duration_s:.1f}", caption, f"{e.start_s:.3f}", ""])  # fmt: skip


def main() -> None:
    """Write song facts, the fitted autoencoder, the latents trained on and the latents held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("songs", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    autoencoder = SpectralAutoencoder(latent_channels=CHANNELS, stack=STACK)
    frames, hop = SEGMENT_FRAMES * SEGMENTS, autoencoder.hop_length
    length = frames * hop + hop * (PHASES - 1) // PHASES
    songs = split()
    trained, held_out = ([excerpt(s, options.songs, length) for s in part] for part in (songs.trained, songs.held_out))
    known = [facts(e.samples) for e in trained]
    options.out.mkdir(parents=True, exist_ok=True)
    write_rows(options.out / "songs.csv", trained, captions(known, known))
    write_rows(options.out / "held_out.csv", held_out, captions([facts(e.samples) for e in held_out], known))
    features = [autoencoder.features(e.samples[None, None, : frames * hop])[0] for e in trained]
    autoencoder.fit(torch.cat(features, 1))
    autoencoder.save_pretrained(options.out / "pipeline" / "vae")
    latents = torch.stack([phases(autoencoder, e.samples, frames) for e in trained])
    packed = Bytes.of(latents)
    save_file({"codes": packed.codes, "scale": packed.scale}, options.out / "latents.safetensors")
    unseen = torch.stack([phases(autoencoder, e.samples, frames)[0] for e in held_out])
    windows = unseen.unflatten(2, (SEGMENTS, SEGMENT_FRAMES))[:, :, HELD_OUT_WINDOWS].transpose(1, 2).flatten(0, 1)
    save_file({"latents": windows.half().contiguous()}, options.out / "held_out.safetensors")
    print(f"{len(trained)} songs, latents {tuple(latents.shape)}, std {latents.std():.2f}; held out {len(held_out)}")


def unpacked(path: Path) -> Tensor:
    """Read the latents trained on: [songs, phases, c, frames] float32."""
    stored = load_file(path)
    return Bytes(stored["codes"], stored["scale"]).floats()


if __name__ == "__main__":
    main()
