"""Embedding similarity, without gradients: `python -m bench.faithfulness.judge.embedding MODEL WORK OUT`.

A song's score is the sum over its segments of their cosine with the query, or the maximum. Feature spaces: what the
autoencoder's channels or its mel bands do on average, the latents themselves at the best shift in time, and the
denoiser's own hidden states. MODEL and WORK are those of `bench.faithfulness.score`; OUT/scores-embedding.safetensors
gets SPACE-sum and SPACE-max of every space.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from bench.faithfulness.setting import Setting  # first: it makes torchaudio importable

# isort: split
import torch
from safetensors.torch import save_file
from torch import Tensor

from worker.attribution.measure import exact_float32, schedule
from worker.attribution.noise import Grid

if TYPE_CHECKING:
    from worker.attribution.types import Model, Segments

Pooling = Literal["sum", "max"]
HIDDEN_BLOCK = "transformer_blocks.2"
HIDDEN_LEVEL = 0.3
HIDDEN_SEED = 31
BATCH = 64


def statistics(frames: Tensor) -> Tensor:
    """Return every channel's mean and deviation over time: [s, c, f] → [s, 2c]."""
    return torch.cat([frames.mean(2), frames.std(2)], 1)


def mel_bands(latents: Tensor, autoencoder: torch.nn.Module) -> Tensor:
    """Return the log-mel bands [s, n_mels, f · stack] that a `SpectralAutoencoder` decodes linearly from latents."""
    vae = autoencoder
    features = vae.basis @ (latents * vae.scale[:, None]) + vae.mean[:, None]
    stack = int(vae.config.stack)
    return features.reshape(len(latents), -1, stack, latents.shape[2]).transpose(2, 3).flatten(2)


def standardised(queries: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Return both [·, d] less the mean of the training segments and divided by their deviation."""
    mean, deviation = segments.mean(0), segments.std(0).clamp(min=1e-9)
    return (queries - mean) / deviation, (segments - mean) / deviation


def cosine(queries: Tensor, segments: Tensor) -> Tensor:
    """Return the cosine of standardised features: [q, d], [n, d] → [q, n]."""
    a, b = (torch.nn.functional.normalize(x, dim=1) for x in standardised(queries, segments))
    return a @ b.mT


def best_shift(queries: Tensor, segments: Tensor, furthest: int) -> Tensor:
    """Return the highest cosine of latents [·, c, f] over shifts of at most `furthest` frames: [q, n]."""
    frames = queries.shape[2]
    a, b = (torch.fft.rfft(x / x.flatten(1).norm(dim=1)[:, None, None], 2 * frames) for x in (queries, segments))
    rows = [torch.fft.irfft(torch.einsum("cf,ncf->nf", one.conj(), b), 2 * frames) for one in a]
    shifts = torch.arange(-furthest, furthest + 1) % (2 * frames)
    return torch.stack([row[:, shifts].amax(1) for row in rows])


@torch.no_grad()
def hidden_states(model: Model, segments: Segments, block: str = HIDDEN_BLOCK, draws: int = 4) -> Tensor:
    """Return the mean over time and draws of what leaves `block` at noise level 0.3: [s, width] on the CPU.

    The noise is the same for all segments; tokens in front of the latents are left out.
    """
    caught: list[Tensor] = []
    handle = model.module.get_submodule(block).register_forward_hook(lambda _m, _in, out: caught.append(out))
    try:
        with exact_float32():
            parts = [_hidden(model, segments[at : at + BATCH], draws, caught) for at in range(0, len(segments), BATCH)]
    finally:
        handle.remove()
    return torch.cat(parts)


def _hidden(model: Model, segments: Segments, draws: int, caught: list[Tensor]) -> Tensor:
    part = segments.to(model.device)
    alpha, sigma = schedule(torch.tensor(HIDDEN_LEVEL, dtype=torch.float64))
    noise = Grid(HIDDEN_SEED, draws).noise((part.latents.shape[1], part.latents.shape[2])).to(part.latents)
    clean = (part.latents * part.mask.to(part.latents)[:, None])[:, None]
    noisy = (float(alpha) * clean + float(sigma) * noise).flatten(0, 1)
    model.output({}, noisy, noisy.new_full((len(noisy),), HIDDEN_LEVEL), part.cond.repeat(draws))
    states = caught.pop()[:, -part.latents.shape[2] :]
    return states.mean(1).unflatten(0, (len(part), draws)).mean(1).float().cpu()


def by_song(similarity: Tensor, song_of: Tensor, songs: int, pooling: Pooling = "sum") -> Tensor:
    """Return the sum or the maximum over each song's segments: similarity [q, n], song_of [n] → [q, songs]."""
    index = song_of.expand(len(similarity), -1)
    empty = similarity.new_zeros(len(similarity), songs)
    return empty.scatter_reduce(1, index, similarity, "sum" if pooling == "sum" else "amax", include_self=False)


def similarities(queries: Segments, trained: Segments, model: Model, autoencoder: torch.nn.Module) -> dict[str, Tensor]:
    """Return the similarity [q, n] of queries and training segments in every space."""
    a, b = queries.latents.float(), trained.latents.float()
    with torch.no_grad():
        bands = [statistics(mel_bands(x, autoencoder)) for x in (a, b)]
    return {
        "latent_statistics": cosine(statistics(a), statistics(b)),
        "mel_statistics": cosine(*bands),
        "latents_shifted": best_shift(a, b, a.shape[2] // 2),
        "model_features": cosine(hidden_states(model, queries), hidden_states(model, trained)),
    }


def scores(setting: Setting, autoencoder: torch.nn.Module) -> dict[str, Tensor]:
    """Return the song scores [q, songs] of every space and pooling."""
    segments = (setting.queries, setting.training)
    found = similarities(*segments, setting.model, autoencoder)
    return {
        f"{name}-{pooling}": by_song(similarity.cpu(), setting.song, setting.songs, pooling)
        for name, similarity in found.items()
        for pooling in get_args(Pooling)
    }


def main() -> None:
    """Load the setting and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "work", "out"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    setting = Setting.load(options.model, options.work, "cuda" if torch.cuda.is_available() else "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    found = scores(setting, setting.model.pipeline.vae)
    save_file({name: x.contiguous() for name, x in found.items()}, options.out / "scores-embedding.safetensors")


if __name__ == "__main__":
    main()
