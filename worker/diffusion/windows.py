"""From a waveform to the fixed windows that the autoencoder takes, and what in them is music."""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor
from torchaudio.functional import resample

SILENCE_DBFS = -70.0
LEAST_MUSIC = 0.1
_LARGEST_RATIO_TERM = 1000


@dataclass(frozen=True)
class WindowFormat:
    """What one window must be: `frames` latent frames of `hop` samples at `rate` Hz in `channels` channels."""

    rate: int
    channels: int
    frames: int
    hop: int

    @property
    def samples(self) -> int:
        """Length of a window in samples."""
        return self.frames * self.hop

    @property
    def seconds(self) -> float:
        """Length of a window in seconds."""
        return self.samples / self.rate


@dataclass(frozen=True)
class Windows:
    """Windows of one recording.

    audio: [s, channels, samples] float32; mask: [s, frames], 1 where a frame is music, 0 in padding and silence;
    starts: [s] seconds from the recording's begin; total: its length in seconds.
    """

    audio: Tensor
    mask: Tensor
    starts: Tensor
    total: float

    def __len__(self) -> int:
        return len(self.audio)


def cut(samples: Tensor, rate: int, form: WindowFormat) -> Windows:
    """Mix, resample and cut `samples` [ch, n] at `rate` Hz into adjoining windows, the last one padded with zeros.

    Windows with under 10 % of music are left out, unless no other is left.
    """
    mixed = resample_to(remix(samples.float(), form.channels), rate, form.rate)
    length = mixed.shape[-1]
    count = max(1, -(-length // form.samples))
    padded = torch.nn.functional.pad(mixed, (0, count * form.samples - length))
    audio = padded.reshape(form.channels, count, form.samples).transpose(0, 1)
    mask = music(audio, form.hop)
    starts = torch.arange(count) * form.seconds
    share = mask.mean(1)
    kept = share >= min(LEAST_MUSIC, float(share.max()))
    return Windows(audio[kept].contiguous(), mask[kept], starts[kept], length / form.rate)


def remix(samples: Tensor, channels: int) -> Tensor:
    """Return `samples` [ch, n] as [channels, n]: unchanged, or each channel the mean of all."""
    if len(samples) == channels:
        return samples
    return samples.mean(0, keepdim=True).expand(channels, -1)


def resample_to(samples: Tensor, rate: int, target: int) -> Tensor:
    """Resample [ch, n] from `rate` to `target` Hz by windowed-sinc interpolation.

    The filter grows with the terms of the ratio, so an odd rate is rounded to a ratio of small terms (under 1 part
    in 1,000 off) instead of filling the memory.
    """
    ratio = Fraction(target, rate).limit_denominator(_LARGEST_RATIO_TERM)
    if ratio == 1:
        return samples
    return torch.as_tensor(resample(samples, ratio.denominator, ratio.numerator))


def music(audio: Tensor, hop: int) -> Tensor:
    """Return [s, frames]: 1 where a frame of `hop` samples of `audio` [s, ch, n] is louder than -70 dBFS, else 0."""
    power = audio.reshape(len(audio), audio.shape[1], -1, hop).square().mean((1, 3))
    return (power > 10 ** (SILENCE_DBFS / 10)).float()
