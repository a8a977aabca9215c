"""An audio autoencoder at frame rate: a fixed linear encoder on log-mel spectra, an iterative spectral decoder."""

from __future__ import annotations

import torch
import torchaudio.functional as taf
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleckOutput, OobleckDecoderOutput
from diffusers.models.autoencoders.vae import IdentityDistribution
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor


class SpectralAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is untyped
    """Latents are principal components of stacked log-mel frames; audio comes back by Griffin-Lim.

    It wears the face of diffusers' AutoencoderOobleck, so a StableAudioPipeline takes it as its `vae`. The encoder is
    an affine map of `log(mel + floor)`, so latents stay valid when the decoder is improved. Bands end at `highest_hz`
    and `floor` lies some 68 dB under full scale, because what a lossy codec takes away is mostly beyond either. The
    decoder inverts the mel filters with non-negative multiplicative updates (Lee and Seung, 2001) and finds phases by
    fast Griffin-Lim (Perraudin et al., 2013). Phases are not coded.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers is untyped
    def __init__(  # noqa: PLR0913  (it records its arguments, one by one, in config.json)
        self,
        *,
        sampling_rate: int = 24000,
        audio_channels: int = 1,
        latent_channels: int = 64,
        n_fft: int = 2048,
        n_mels: int = 128,
        stack: int = 2,
        floor: float = 0.2,
        highest_hz: float = 9000.0,
        inversion_steps: int = 20,
        phase_steps: int = 32,
    ) -> None:
        super().__init__()
        self.spectrum_hop = n_fft // 4
        self.hop_length = self.spectrum_hop * stack
        features = n_mels * stack
        mel = taf.melscale_fbanks(n_fft // 2 + 1, 0.0, highest_hz, n_mels, sampling_rate)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("mel", mel.T.contiguous(), persistent=False)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("basis", torch.eye(features, latent_channels))
        self.register_buffer("scale", torch.ones(latent_channels))

    def encode(self, audio: Tensor) -> AutoencoderOobleckOutput:
        """Encode waveforms [s, 1, n], n a multiple of `hop_length`, as latents [s, c, n / hop_length]."""
        features = self.features(audio) - self.mean[:, None]
        latents = (self.basis.T @ features) / self.scale[:, None]
        return AutoencoderOobleckOutput(latent_dist=IdentityDistribution(latents))

    def decode(self, latents: Tensor, return_dict: bool = True) -> OobleckDecoderOutput | tuple[Tensor]:
        """Decode latents [s, c, f] as waveforms [s, 1, f * hop_length]; the same latents give the same samples."""
        features = self.basis @ (latents.float() * self.scale[:, None]) + self.mean[:, None]
        samples = self._waveform(self._magnitude(self._unstacked(features)))[:, None]
        return OobleckDecoderOutput(sample=samples) if return_dict else (samples,)

    def features(self, audio: Tensor) -> Tensor:
        """Stacked log-mel frames [s, n_mels * stack, n / hop_length] of waveforms [s, 1, n]."""
        spectrum = torch.stft(
            audio[:, 0].float(), self.config.n_fft, self.spectrum_hop, window=self.window, return_complex=True
        )
        bands = torch.log(self.mel @ spectrum.abs()[..., :-1] + self.config.floor)
        stack = self.config.stack
        frames = bands.reshape(*bands.shape[:-1], bands.shape[-1] // stack, stack)
        return torch.as_tensor(frames.transpose(-1, -2).flatten(1, 2))

    def fit(self, features: Tensor) -> None:
        """Set mean, basis and scale from `features` [n_mels * stack, frames] of the training songs (PCA).

        Channels are divided by the square root of their deviation, then by one number that makes their mean variance
        1: fine detail is neither drowned nor blown up to the size of the outline.
        """
        self.mean.copy_(features.mean(1))
        basis, singular, _ = torch.linalg.svd(features - self.mean[:, None], full_matrices=False)
        kept = self.config.latent_channels
        deviation = singular[:kept] / features.shape[1] ** 0.5
        self.basis.copy_(basis[:, :kept])
        self.scale.copy_(deviation.sqrt() * deviation.mean().sqrt())

    def _unstacked(self, features: Tensor) -> Tensor:
        stack = int(self.config.stack)
        return features.reshape(len(features), -1, stack, features.shape[-1]).transpose(-1, -2).flatten(-2)

    def _magnitude(self, bands: Tensor) -> Tensor:
        """Solve mel @ magnitude = exp(bands) - floor for a non-negative magnitude [s, n_fft / 2 + 1, t]."""
        target = (bands.exp() - self.config.floor).clamp(min=0.0)
        magnitude: Tensor = (torch.linalg.pinv(self.mel) @ target).clamp(min=0.0)
        for _ in range(self.config.inversion_steps):
            ratio = target / (self.mel @ magnitude + 1e-8)
            magnitude = magnitude * (self.mel.T @ ratio) / (self.mel.sum(0)[:, None] + 1e-8)
        return magnitude

    def _waveform(self, magnitude: Tensor) -> Tensor:
        frames = torch.cat([magnitude, magnitude[..., -1:]], -1)
        with torch.random.fork_rng([frames.device] if frames.is_cuda else []):
            torch.manual_seed(0)
            samples: Tensor = taf.griffinlim(
                frames,
                self.window,
                self.config.n_fft,
                self.spectrum_hop,
                self.config.n_fft,
                power=1.0,
                n_iter=self.config.phase_steps,
                momentum=0.99,
                length=magnitude.shape[-1] * self.spectrum_hop,
                rand_init=True,
            )
        return samples
