"""Laws of the spectral autoencoder."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from worker.diffusion.spectral import SpectralAutoencoder

RATE = 8000
HOP = 256


@pytest.fixture(scope="module")
def audio() -> Tensor:
    """Four seconds of three chords with a decay, [3, 1, n]."""
    time = torch.arange(16 * HOP * 8) / RATE
    chords = [(220, 277, 330), (196, 247, 294), (262, 330, 392)]
    waves = [sum(torch.sin(2 * math.pi * f * time) for f in chord) * torch.exp(-(time % 0.5) * 3) for chord in chords]
    return 0.2 * torch.stack(waves)[:, None]


@pytest.fixture(scope="module")
def fitted(audio: Tensor) -> SpectralAutoencoder:
    autoencoder = SpectralAutoencoder(sampling_rate=RATE, latent_channels=24, n_fft=512, n_mels=40, highest_hz=3500.0)
    features = autoencoder.features(audio)
    autoencoder.fit(features.transpose(0, 1).flatten(1))
    return autoencoder


def encoded(autoencoder: SpectralAutoencoder, audio: Tensor) -> Tensor:
    return autoencoder.encode(audio).latent_dist.mode()


def test_a_latent_frame_stands_for_one_hop(fitted: SpectralAutoencoder, audio: Tensor) -> None:
    latents = encoded(fitted, audio)
    assert fitted.hop_length == HOP
    assert latents.shape == (3, 24, audio.shape[-1] // HOP)
    assert fitted.decode(latents).sample.shape == audio.shape


def test_latents_of_the_fitted_songs_are_centred_and_of_unit_variance_on_average(
    fitted: SpectralAutoencoder, audio: Tensor
) -> None:
    latents = encoded(fitted, audio).transpose(0, 1).flatten(1)
    assert latents.mean(1).abs().max() < 1e-3
    assert latents.var(1, correction=0).mean() == pytest.approx(1.0, rel=1e-3)


def test_decoding_is_repeatable_and_leaves_the_callers_dice_alone(fitted: SpectralAutoencoder, audio: Tensor) -> None:
    latents = encoded(fitted, audio)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fitted.decode(latents).sample
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(fitted.decode(latents).sample, first)


def test_a_song_is_encoded_alike_alone_and_among_others(fitted: SpectralAutoencoder, audio: Tensor) -> None:
    torch.testing.assert_close(encoded(fitted, audio[1:2]), encoded(fitted, audio)[1:2])


def test_silence_has_finite_latents_and_comes_back_as_silence(fitted: SpectralAutoencoder) -> None:
    latents = encoded(fitted, torch.zeros(1, 1, 8 * HOP))
    assert latents.isfinite().all()
    assert fitted.decode(latents).sample.abs().max() < 0.01


def test_what_is_saved_comes_back(fitted: SpectralAutoencoder, audio: Tensor, tmp_path) -> None:
    fitted.save_pretrained(tmp_path)
    loaded = SpectralAutoencoder.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert dict(loaded.config)["highest_hz"] == 3500.0
    assert torch.equal(encoded(loaded, audio), encoded(fitted, audio))
