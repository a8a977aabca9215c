"""Train denoiser, text encoder and timing on the prepared latents: `python -m bench.starter.train build/starter`.

Every step draws random crops of the songs' excerpts, noise levels uniform in (0, 1) and Gaussian noise, and takes the
mean squared error of the v-prediction. One in ten crops loses its text (classifier-free guidance, arXiv 2207.12598).
Half of the crops are told that they are a whole track, half where in their excerpt they lie. On a GPU one step is
captured as a CUDA graph. What is saved is the exponential moving average of the weights, in half precision.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.starter.pipeline import captions_of  # first: it makes torchaudio, and so diffusers, importable

from diffusers.models.embeddings import get_1d_rotary_pos_embed  # isort: skip

from worker.diffusion.layout import load_pipeline
from worker.diffusion.stable_audio import timestep

FRAME_S = 1024 / 24000
REPORT_EVERY = 500


@dataclass(frozen=True)
class Recipe:
    """What decides the trained weights, beside data and architecture."""

    steps: int = 20000
    batch: int = 128
    rate: float = 1e-3
    warmup: int = 500
    decay: float = 0.01
    average: float = 0.999
    drop_text: float = 0.1
    seed: int = 0


class Training(torch.nn.Module):
    """The loss of one random batch; a module so that all trained weights are in one place."""

    def __init__(self, pipeline: object, latents: Tensor, captions: list[str], recipe: Recipe) -> None:
        super().__init__()
        self.denoiser, self.text, self.timing = pipeline.transformer, pipeline.text_encoder, pipeline.projection_model
        self.scheduler, self.recipe = pipeline.scheduler, recipe
        self.register_buffer("latents", latents.transpose(1, 2).contiguous())
        tokens = pipeline.tokenizer(
            captions, padding="max_length", max_length=pipeline.tokenizer.model_max_length, return_tensors="pt"
        )
        self.register_buffer("tokens", tokens.input_ids)
        self.register_buffer("real", tokens.attention_mask.float())
        self.frames = self.denoiser.config.sample_size
        rotary = get_1d_rotary_pos_embed(
            pipeline.rotary_embed_dim, self.frames + 1, use_real=True, repeat_interleave_real=False
        )
        self.register_buffer("cosine", rotary[0])
        self.register_buffer("sine", rotary[1])

    def forward(self) -> Tensor:
        """Mean squared v-error of one random batch."""
        size, device = self.recipe.batch, self.latents.device
        song = torch.randint(len(self.latents), (size,), device=device)
        start = torch.randint(self.latents.shape[1] - self.frames + 1, (size,), device=device)
        clean = self.latents[song[:, None], start[:, None] + torch.arange(self.frames, device=device)].transpose(1, 2)
        level, noise = torch.rand(size, device=device), torch.randn_like(clean)
        alpha, sigma = (f(level * (math.pi / 2))[:, None, None] for f in (torch.cos, torch.sin))
        cross, globals_ = self.conditioning(song, start)
        predicted = self.denoiser(
            alpha * clean + sigma * noise,
            timestep(self.scheduler, level),
            encoder_hidden_states=cross,
            global_hidden_states=globals_,
            rotary_embedding=(self.cosine, self.sine),
            return_dict=False,
        )[0]
        return (predicted.float() - (alpha * noise - sigma * clean)).square().mean()

    def conditioning(self, song: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-attention tokens and global timing of a batch, as the pipeline makes them at generation."""
        # A ready four-dimensional mask: the library's own construction waits for the device and cannot be captured.
        blocked = torch.where(self.real[:, None, None] > 0, 0.0, torch.finfo(torch.float32).min)
        hidden = self.text(self.tokens, attention_mask=blocked.expand(-1, 1, self.tokens.shape[1], -1))[0]
        text = self.timing(text_hidden_states=hidden).text_hidden_states * self.real[..., None]
        whole = (torch.rand_like(start, dtype=torch.float32) < 0.5).float()
        starts = start * FRAME_S * (1 - whole)
        totals = FRAME_S * (whole * self.frames + (1 - whole) * self.latents.shape[1])
        timing = self.timing(start_seconds=starts, end_seconds=totals)
        begin, end = timing.seconds_start_hidden_states, timing.seconds_end_hidden_states
        told = (torch.rand_like(starts) >= self.recipe.drop_text).float()[:, None, None]
        return torch.cat([text[song], begin, end], 1) * told, torch.cat([begin, end], 2)


class Trainer:
    """Optimiser, moving average and, on a GPU, the captured step."""

    def __init__(self, training: Training, recipe: Recipe) -> None:
        self.training, self.recipe = training, recipe
        self.weights = list(training.parameters())
        self.averages = [w.detach().clone() for w in self.weights]
        self.cuda = training.latents.is_cuda
        self.loss = torch.zeros((), device=training.latents.device)
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=torch.tensor(0.0, device=self.loss.device), betas=(0.9, 0.98),
            weight_decay=recipe.decay, fused=self.cuda, capturable=self.cuda,
        )  # fmt: skip
        self.graph = self._capture() if self.cuda else None

    def rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        warm = min(1.0, (step + 1) / self.recipe.warmup)
        return self.recipe.rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.recipe.steps))

    def step(self, number: int) -> None:
        """One update."""
        self.optimiser.param_groups[0]["lr"].fill_(self.rate(number))
        if self.graph is None:
            self._update()
        else:
            self.graph.replay()

    def _update(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.cuda, cache_enabled=False):
            loss = self.training()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0, foreach=True)
        self.optimiser.step()
        torch._foreach_lerp_(self.averages, self.weights, 1 - self.recipe.average)
        self.loss.lerp_(loss.detach(), 0.01)

    def _capture(self) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._update()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._update()
        return graph


def train(training: Training, recipe: Recipe) -> dict[str, float]:
    """Train in place, put the averaged weights in, and return what happened."""
    trainer, begun = Trainer(training, recipe), time.perf_counter()
    for number in range(recipe.steps):
        trainer.step(number)
        if (number + 1) % REPORT_EVERY == 0 or number + 1 == recipe.steps:
            seconds = time.perf_counter() - begun
            print(f"step {number + 1}/{recipe.steps} loss {trainer.loss.item():.4f} {seconds:.0f} s", flush=True)
    for weight, average in zip(trainer.weights, trainer.averages, strict=True):
        weight.data.copy_(average)
    return {"final_loss": round(trainer.loss.item(), 4), "seconds": round(time.perf_counter() - begun, 1)}


def main() -> None:
    """Train and write the weights over those in the pipeline folder (or into --out)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    options = parser.parse_args()
    recipe = Recipe(steps=options.steps, seed=options.seed)
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = load_pipeline(options.folder / "pipeline", device)
    latents = load_file(options.folder / "latents.safetensors")["latents"]
    training = Training(pipeline, latents, captions_of(options.folder), recipe).to(device)
    for part in (training.denoiser, training.text, training.timing):
        part.requires_grad_(True).train()
    happened = train(training, recipe)
    out = options.out or options.folder
    for name in ("transformer", "text_encoder", "projection_model"):
        getattr(pipeline, name).half().save_pretrained(out / "pipeline" / name, safe_serialization=True)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    record = {**asdict(recipe), **happened, "device": machine, "torch": torch.__version__}
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
