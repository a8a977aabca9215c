"""Measure the starter: `python -m bench.starter.figures starter build/songs` writes bench/results/starter.json.

How nearly decoding then encoding gives the same latents, whether tracks differ with prompt and seed and are far from
silence and noise, how close they come to the training songs, and what the autoencoder keeps of real songs.
Spectrograms go to docs/images/. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from bench.hardware import RESULTS, save
from bench.starter.pipeline import captions_of
from bench.starter.prepare import SEGMENT_FRAMES, excerpt
from bench.starter.songs import Song, split
from worker.diffusion.stable_audio import Sampling, StableAudio
from worker.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.index import Index

SEEDS = (1, 2, 3)
PROMPTS = 8
RECONSTRUCTED = 12
SAMPLING = Sampling()
PICTURES = Path("docs/images")


def as_uploaded(audio: Tensor) -> Tensor:
    """A generated track [ch, n] as `generate` hands it out and a 16-bit file holds it."""
    return (audio / audio.abs().max().clamp(min=1.0) * 32767).round() / 32768


def generation(model: StableAudio, prompts: list[str]) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Generate every prompt with every seed; return the audio by name and what was measured."""
    audio, before, after, decoded = {}, [], [], []
    for number, prompt in enumerate(prompts):
        for seed in SEEDS:
            latents = drawn(model, prompt, seed)
            wave = model.pipeline.vae.decode(latents).sample
            track = as_uploaded(wave[0])
            audio[f"{number}/{seed}"] = track
            before.append(latents[0])
            decoded.append(model.latents(wave)[0])
            after.append(model.latents(track[None])[0])
    alike = _cosines(torch.stack(after))
    prompt_of = torch.arange(len(prompts)).repeat_interleave(len(SEEDS))
    same = (prompt_of[:, None] == prompt_of) & ~torch.eye(len(prompt_of), dtype=torch.bool)
    return audio, {
        "tracks": len(after),
        "cycle_cosine": _spread(_paired(before, decoded)),
        "cycle_cosine_uploaded": _spread(_paired(before, after)),
        "cosine_same_prompt_other_seed": _spread(alike[same]),
        "cosine_other_prompt": _spread(alike[prompt_of[:, None] != prompt_of]),
        "level_dbfs": _spread(torch.stack([20 * t.square().mean().sqrt().log10() for t in audio.values()])),
        "spectral_flatness": _spread(torch.stack([flatness(t) for t in audio.values()])),
        "spectral_flatness_of_white_noise": round(float(flatness(torch.randn(1, 240000))), 3),
    }


def drawn(model: StableAudio, prompt: str, seed: int) -> Tensor:
    """The latents [1, c, f] that the pipeline draws for a prompt."""
    answer = model.pipeline(
        prompt, audio_end_in_s=model.form.seconds, num_inference_steps=SAMPLING.steps,
        guidance_scale=SAMPLING.guidance, generator=torch.Generator("cpu").manual_seed(seed), output_type="latent",
    )  # fmt: skip
    return torch.as_tensor(answer.audios)


def nearest_training(model: StableAudio, index: Index, audio: dict[str, Tensor]) -> dict[str, float]:
    """The highest cosine of each track's latents with any window of any training song, a quarter of a second apart."""
    kept = index.shard.latents.floats()
    songs = kept.unflatten(0, (len(index.manifest.songs), -1)).transpose(1, 2).flatten(2)
    windows = songs.unfold(2, SEGMENT_FRAMES, 3).transpose(1, 2).flatten(0, 1).flatten(1)
    tracks = torch.cat([model.latents(track[None]) for track in audio.values()]).flatten(1)
    unit = torch.nn.functional.normalize
    return _spread((unit(tracks, dim=1) @ unit(windows, dim=1).T).amax(1))


def reconstruction(model: StableAudio, songs: Sequence[Song], folder: Path) -> dict[str, object]:
    """Encode and decode ten seconds of real songs: error of the mel bands in dB, cosine of the latents."""
    vae, errors, cosines = model.pipeline.vae, [], []
    for song in songs:
        wave = excerpt(song, folder, model.form.samples).samples[None, None]
        latents = model.latents(wave)
        again = vae.decode(latents).sample
        difference = (vae.features(again) - vae.features(wave)).abs().mean()
        errors.append(20 / np.log(10) * difference)
        cosines.append(torch.nn.functional.cosine_similarity(latents.flatten(), model.latents(again).flatten(), dim=0))
    return {
        "songs": len(songs),
        "mel_error_db": _spread(torch.stack(errors)),
        "cycle_cosine": _spread(torch.stack(cosines)),
    }


def flatness(track: Tensor) -> Tensor:
    """Geometric over arithmetic mean of the power spectrum, averaged over frames: 1 for white noise, 0 for a tone."""
    power = torch.stft(track[0], 2048, window=torch.hann_window(2048), return_complex=True).abs().square() + 1e-12
    return (power.log().mean(0).exp() / power.mean(0)).mean()


def pictures(model: StableAudio, audio: dict[str, Tensor], prompts: list[str], folder: Path) -> None:
    """Spectrograms: a song and its reconstruction, and six generated tracks."""
    song = split().trained[0]
    wave = excerpt(song, folder, model.form.samples).samples
    again = model.pipeline.vae.decode(model.latents(wave[None, None])).sample[0, 0]
    shown = [("a training song", wave), ("the same, encoded and decoded", again)]
    picked = ((0, 1), (0, 2), (1, 1), (2, 1), (3, 1), (4, 1))
    shown += [(f"“{prompts[n]}”, seed {s}", audio[f"{n}/{s}"][0]) for n, s in picked]
    figure, axes = plt.subplots(4, 2, figsize=(12, 12), sharex=True, sharey=True, layout="constrained")
    for axis, (title, track) in zip(axes.flat, shown, strict=True):
        axis.specgram(track.numpy() + 1e-7, NFFT=2048, Fs=model.form.rate, noverlap=1536, vmin=-140, vmax=-30)
        axis.set_title(title, fontsize=9)
        axis.set_ylim(0, 10000)
    figure.supxlabel("seconds")
    figure.supylabel("Hz")
    PICTURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURES / "starter-spectrograms.png", dpi=60)


def _spaced(songs: Sequence[Song]) -> list[Song]:
    return list(songs[:: len(songs) // RECONSTRUCTED][:RECONSTRUCTED])


def _paired(first: list[Tensor], second: list[Tensor]) -> Tensor:
    return torch.nn.functional.cosine_similarity(torch.stack(first).flatten(1), torch.stack(second).flatten(1))


def _cosines(latents: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(latents.flatten(1), dim=1)
    return unit @ unit.T


def _spread(values: Tensor) -> dict[str, float]:
    named = {"min": torch.min, "median": torch.median, "max": torch.max}
    return {name: round(float(of(values.float())), 3) for name, of in named.items()}


@torch.no_grad()
def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("songs", type=Path)
    options = parser.parse_args()
    engine = Engine.load(options.model, "cpu")
    model, index = engine.model, engine.index
    prompts = json.loads((options.model / "prompts.json").read_text())["background"][:PROMPTS]
    audio, measured = generation(model, prompts)
    songs = split()
    result = {
        "command": f"python -m bench.starter.figures {options.model} SONGS",
        "captions": len(set(captions_of(options.model))),
        "sampling": {"steps": SAMPLING.steps, "guidance": SAMPLING.guidance, "seeds": SEEDS, "prompts": prompts},
        "generation": measured,
        "nearest_training_cosine": nearest_training(model, index, audio),
        "reconstruction_trained": reconstruction(model, _spaced(songs.trained), options.songs),
        "reconstruction_unseen": reconstruction(model, _spaced(songs.held_out), options.songs),
    }
    pictures(model, audio, prompts, options.songs)
    save(RESULTS / "starter.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
