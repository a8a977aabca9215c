"""Stable Audio seen as an attribution model: latents, text and timing conditioning, v-prediction, generation.

Stable Audio (arXiv 2402.04825, 2407.14358) noises latents as x_t = cos(pi t / 2) x + sin(pi t / 2) eps and predicts
v = cos(pi t / 2) eps - sin(pi t / 2) x. Its samplers speak of sigma = tan(pi t / 2) instead and each tells the
denoiser the level in its own way, so the level is handed over in the words of the pipeline's own scheduler.
"""

import copy
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

from worker.attribution.types import Conditioning, Params, Progress, Segments, silent
from worker.diffusion.layout import UnsupportedPipeline, load_pipeline
from worker.diffusion.windows import WindowFormat, Windows

_ENCODED_TOGETHER = 4


@dataclass(frozen=True)
class Sampling:
    """How a track is generated: denoising steps, and classifier-free guidance scale (1: none)."""

    steps: int = 50
    guidance: float = 3.0


def load(folder: Path, device: torch.device | str) -> "StableAudio":
    """Load the StableAudioPipeline layout in the local `folder`. Raises UnsupportedPipeline."""
    return StableAudio(load_pipeline(folder, torch.device(device)))


def timestep(scheduler: Any, level: Tensor) -> Tensor:
    """Return what `scheduler` tells the denoiser for noise levels t in (0, 1), t = atan(sigma) * 2 / pi."""
    return torch.as_tensor(scheduler.precondition_noise(torch.tan(level * (math.pi / 2))))


class StableAudio:
    """A resident pipeline as `attribution.types.Model`; `module` is its denoiser, in float32 and never changed."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.module: torch.nn.Module = pipeline.transformer
        self.device: torch.device = pipeline.transformer.device
        vae, denoiser = pipeline.vae.config, pipeline.transformer.config
        self.form = WindowFormat(
            int(vae.sampling_rate), int(vae.audio_channels), int(denoiser.sample_size), int(pipeline.vae.hop_length)
        )
        self._rotary = lru_cache(maxsize=4)(self._new_rotary)

    def params(self, pattern: str) -> Params:
        """Return the denoiser's weights whose name matches the regular expression `pattern`, detached."""
        return {n: p.detach() for n, p in self.module.named_parameters() if re.search(pattern, n)}

    def output(self, params: Params, noisy: Tensor, level: Tensor, cond: Conditioning) -> Tensor:
        """Return v [b, c, f] for `noisy` [b, c, f] at levels t `level` [b]; `params` stand in for weights by name."""
        options = {
            "encoder_hidden_states": cond.cross,
            "global_hidden_states": cond.globals_,
            "rotary_embedding": self._rotary(noisy.shape[2] + cond.globals_.shape[1]),
            "return_dict": False,
        }
        inputs = (noisy, timestep(self.pipeline.scheduler, level))
        if not params:
            return torch.as_tensor(self.module(*inputs, **options)[0])
        return torch.as_tensor(torch.func.functional_call(self.module, dict(params), inputs, options)[0])

    def encode(self, windows: Windows, prompt: str | None, progress: Progress = silent) -> Segments:
        """Return the segments of one recording, all under one `prompt` (None: the null condition), on the CPU.

        Timing tells the denoiser, as in training, where each window starts and how long the whole recording is.
        """
        cond = self.condition([prompt] * len(windows), windows.starts, torch.full_like(windows.starts, windows.total))
        return Segments(self.latents(windows.audio, progress), windows.mask, cond)

    @torch.no_grad()
    def latents(self, audio: Tensor, progress: Progress = silent) -> Tensor:
        """Encode `audio` [s, ch, n] to the mode of its latent distribution [s, c, f], on the CPU."""
        parts = []
        for at in range(0, len(audio), _ENCODED_TOGETHER):
            encoded = self.pipeline.vae.encode(audio[at : at + _ENCODED_TOGETHER].to(self.device))
            parts.append(encoded.latent_dist.mode().float().cpu())
            progress(min(1.0, (at + _ENCODED_TOGETHER) / len(audio)))
        latents = torch.cat(parts)
        if latents.shape[-1] != self.form.frames:
            raise UnsupportedPipeline(f"a window encodes to {latents.shape[-1]} frames, not {self.form.frames}")
        return latents

    @torch.no_grad()
    def condition(self, prompts: Sequence[str | None], starts: Tensor, totals: Tensor) -> Conditioning:
        """Return the conditioning of s segments, on the CPU: text, then start [s] and total [s] in seconds.

        The tokens are those that the pipeline makes at generation; without a prompt all cross-attention tokens are
        zero, timing included, as in guidance without a negative prompt.
        """
        texts = list(dict.fromkeys(prompt or "" for prompt in prompts))
        rows = torch.tensor([texts.index(prompt or "") for prompt in prompts])
        told = torch.tensor([prompt is not None for prompt in prompts])
        text, mask = self._text(texts)
        timing = self.pipeline.projection_model(
            start_seconds=starts.to(self.device), end_seconds=totals.to(self.device)
        )
        start, end = timing.seconds_start_hidden_states.cpu(), timing.seconds_end_hidden_states.cpu()
        cross = torch.cat([text[rows], start, end], 1) * told[:, None, None]
        real = torch.cat([mask[rows], torch.ones(len(rows), 2, dtype=torch.bool)], 1) & told[:, None]
        return Conditioning(cross, real, torch.cat([start, end], 2))

    def having(self, params: Params) -> "StableAudio":
        """Return this model with `params` in place of its weights of the same names, which stay as they are.

        The other weights, and the rest of the pipeline but its scheduler, are shared.
        """
        weights = {
            id(weight): torch.nn.Parameter(params.get(name, weight.detach()), requires_grad=False)
            for name, weight in self.module.named_parameters()
        }
        module = copy.deepcopy(self.module, {**weights, **{id(buffer): buffer for buffer in self.module.buffers()}})
        own = {"transformer": module, "scheduler": copy.deepcopy(self.pipeline.scheduler)}
        pipeline = type(self.pipeline)(**(self.pipeline.components | own))
        pipeline.set_progress_bar_config(disable=True)
        return StableAudio(pipeline)

    def generate(
        self,
        prompt: str,
        seed: int,
        seconds: float | None = None,
        sampling: Sampling | None = None,
        progress: Progress = silent,
    ) -> np.ndarray:
        """Generate audio [ch, n] float32 for `prompt`: at most one window; bit-equal for equal arguments and device.

        What would clip, samples beyond ±1, is turned down as a whole.
        """
        how = sampling or Sampling()
        answer = self.pipeline(
            prompt,
            audio_end_in_s=min(seconds or self.form.seconds, self.form.seconds),
            num_inference_steps=how.steps,
            guidance_scale=how.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
            callback=lambda step, *_: progress((step + 1) / how.steps),
        )
        audio = np.asarray(answer.audios[0], dtype=np.float32)
        return audio / max(1.0, float(np.abs(audio).max(initial=0.0)))

    def _text(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        tokenizer = self.pipeline.tokenizer
        tokens = tokenizer(
            texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).to(self.device)
        hidden = self.pipeline.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        projected = self.pipeline.projection_model(text_hidden_states=hidden).text_hidden_states
        return (projected * tokens.attention_mask.unsqueeze(-1)).cpu(), tokens.attention_mask.bool().cpu()

    def _new_rotary(self, length: int) -> tuple[Tensor, Tensor]:
        cosine, sine = get_1d_rotary_pos_embed(
            self.pipeline.rotary_embed_dim, length, use_real=True, repeat_interleave_real=False
        )
        return cosine.to(self.device), sine.to(self.device)
