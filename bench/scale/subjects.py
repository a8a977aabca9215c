"""The models that are measured: the starter's pipeline, and one of Stable Audio Open's shape with random weights."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import worker.diffusion  # noqa: F401  # makes torchaudio importable, which diffusers imports

# isort: split
import numpy as np
import torch
from diffusers import AutoencoderOobleck, EDMDPMSolverMultistepScheduler, StableAudioDiTModel, StableAudioPipeline
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from worker.attribution.types import Segments
from worker.diffusion.half import HalfBlocks
from worker.diffusion.stable_audio import StableAudio, load
from worker.diffusion.windows import cut

if TYPE_CHECKING:
    from pathlib import Path

    from bench.scale.plan import Shape
    from worker.attribution.replay import Kept
    from worker.attribution.types import Model

PROMPT = "slow piano with strings"


class Subject:
    """A model with the copy of it that rows are made with; batch: samples in one pass of rows; recorded: its graphs."""

    def __init__(self, model: StableAudio, batch: int) -> None:
        self.model, self.batch = model, batch
        self.recorded: Kept = {}

    @cached_property
    def fast(self) -> Model:
        """The copy with bfloat16 blocks on a GPU, the model itself elsewhere."""
        return HalfBlocks(self.model) if self.model.device.type == "cuda" else self.model

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.model.device

    def weights(self) -> int:
        """Return how many weights the denoiser has."""
        return sum(p.numel() for p in self.model.module.parameters())

    def audio(self, seconds: float, seed: int) -> np.ndarray:
        """Return a track [n, ch] of noise and falling tones, the same for the same seed."""
        form, rng = self.model.form, np.random.default_rng(seed)
        time = np.arange(int(seconds * form.rate)) / form.rate
        tones = sum(np.sin(2 * np.pi * f * time) * np.exp(-(time % 1.0)) for f in rng.uniform(80, 900, 4))
        noise = 0.05 * rng.standard_normal((len(time), form.channels))
        return (0.15 * tones[:, None] + noise).astype(np.float32)

    def segments(self, count: int, seed: int) -> Segments:
        """Return `count` segments of random latents, all music, under one prompt, on the device."""
        model, make = self.model, torch.Generator().manual_seed(seed)
        channels = model.pipeline.transformer.config.in_channels
        latents = torch.randn(count, channels, model.form.frames, generator=make)
        starts = torch.arange(count) * model.form.seconds
        cond = model.condition([PROMPT] * count, starts, torch.full((count,), count * model.form.seconds))
        return Segments(latents, torch.ones(count, model.form.frames), cond).to(model.device)

    def windows(self, seconds: float) -> int:
        """Return how many windows a track of so many seconds is cut into."""
        return len(cut(torch.from_numpy(self.audio(seconds, 0)).mT, self.model.form.rate, self.model.form))


def from_folder(folder: Path, device: str, batch: int) -> Subject:
    """Load the registered model in `folder`."""
    return Subject(load(folder / "pipeline", device), batch)


def from_shape(shape: Shape, device: str, batch: int, seed: int) -> Subject:
    """Draw a pipeline of `shape` at random, straight on `device`."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    with torch.device(device):
        parts = _parts(shape, len(tokenizer))
    for part in parts.values():
        part.eval().requires_grad_(False)
    scheduler = EDMDPMSolverMultistepScheduler(0.05, 100.0, 1.0, "exponential", prediction_type="v_prediction")
    pipeline = StableAudioPipeline(**parts, tokenizer=tokenizer, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return Subject(StableAudio(pipeline), batch)


def _parts(shape: Shape, words: int) -> dict[str, torch.nn.Module]:
    width, text = shape.heads * shape.head, shape.text
    encoder = T5Config(
        vocab_size=words, d_model=text, d_kv=text // 2, d_ff=4 * text, num_layers=shape.text_layers, num_heads=2
    )
    denoiser = StableAudioDiTModel(
        sample_size=shape.frames,
        in_channels=shape.channels,
        num_layers=shape.layers,
        attention_head_dim=shape.head,
        num_attention_heads=shape.heads,
        num_key_value_attention_heads=shape.shared_heads,
        out_channels=shape.channels,
        cross_attention_dim=shape.head * shape.shared_heads,
        time_proj_dim=min(256, width),
        global_states_input_dim=2 * text,
        cross_attention_input_dim=text,
    )
    vae = AutoencoderOobleck(
        shape.encoder,
        list(shape.strides),
        list(shape.multiples),
        shape.encoder,
        shape.channels,
        shape.audio_channels,
        shape.rate,
    )
    return {
        "vae": vae,
        "text_encoder": T5EncoderModel(encoder),
        "projection_model": StableAudioProjectionModel(text, text, 0, 512),
        "transformer": denoiser,
    }


def _tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "</s>", "<unk>", *sorted(set(PROMPT.split()))]
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    special = dict(zip(("pad_token", "eos_token", "unk_token"), words[:3], strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokens, model_max_length=128, **special)
