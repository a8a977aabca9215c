"""Train denoiser, text encoder and timing on the prepared latents: `python -m bench.starter.train build/starter`.

Every step draws random crops of the songs' excerpts, noise levels uniform in (0, 1) and Gaussian noise, and takes the
mean squared error of the v-prediction. One in ten crops loses its text (classifier-free guidance, arXiv 2207.12598).
Half of the crops are told that they are a whole track, half where in their excerpt they lie. What is saved is the
exponential moving average of the weights, in half precision.

On a GPU a step is compiled and captured as a CUDA graph, of several models at once where many are trained
(`bench.faithfulness.retrain`): a model this small leaves most of a GPU idle.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.starter.pipeline import captions_of  # first: it makes torchaudio, and so diffusers, importable
from bench.starter.prepare import SEGMENTS, unpacked

from diffusers.models.embeddings import get_1d_rotary_pos_embed  # isort: skip

from worker.diffusion.layout import load_pipeline
from worker.diffusion.stable_audio import timestep

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAME_S = 2048 / 24000
CAPACITY = 512
TRAINED = ("transformer", "text_encoder", "projection_model")


@dataclass(frozen=True)
class Recipe:
    """What decides the trained weights, beside data, architecture and seed.

    epochs: passes over the songs' windows; average: decay a step of the moving average of the weights.
    """

    epochs: int = 300
    batch: int = 64
    rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.01
    average: float = 0.998
    drop_text: float = 0.1

    def steps(self, songs: int) -> int:
        """Return how many updates see `songs` songs, copies counted, `epochs` times."""
        return round(self.epochs * songs * SEGMENTS / self.batch)


@dataclass(frozen=True)
class Run:
    """One training: the songs drawn from, named as often as they are copied, the seed, and the number of updates."""

    songs: tuple[int, ...]
    seed: int
    steps: int


@dataclass(frozen=True)
class Batch:
    """The randomness of one update: song, phase, first frame, noise level, noise, told whole, told text: [b] each."""

    song: Tensor
    phase: Tensor
    start: Tensor
    level: Tensor
    noise: Tensor
    whole: Tensor
    told: Tensor


class Learner(torch.nn.Module):
    """One pipeline in training: its parts that learn, the data, and the loss."""

    def __init__(self, pipeline: object, latents: Tensor, captions: Sequence[str], recipe: Recipe) -> None:
        super().__init__()
        self.denoiser, self.text, self.timing = (getattr(pipeline, name) for name in TRAINED)
        self.scheduler, self.recipe = pipeline.scheduler, recipe
        self.frames = self.denoiser.config.sample_size
        self.register_buffer("latents", latents.transpose(2, 3).contiguous())
        tokens, real = tokenised(pipeline.tokenizer, captions)
        self.register_buffer("tokens", tokens)
        self.register_buffer("real", real)
        self.register_buffer("drawn", torch.zeros(CAPACITY, dtype=torch.long))
        self.register_buffer("count", torch.zeros(()))
        rotary = get_1d_rotary_pos_embed(
            pipeline.rotary_embed_dim, self.frames + 1, use_real=True, repeat_interleave_real=False
        )
        self.register_buffer("cosine", rotary[0])
        self.register_buffer("sine", rotary[1])

    def weights(self) -> list[torch.nn.Parameter]:
        """Every number that training changes."""
        return list(self.parameters())

    def draw(self) -> Batch:
        """Draw the randomness of one update from the device's generator."""
        size, device, songs = self.recipe.batch, self.latents.device, self.latents
        place = (torch.rand(size, device=device) * self.count).long()
        return Batch(
            song=self.drawn[place],
            phase=torch.randint(songs.shape[1], (size,), device=device),
            start=torch.randint(songs.shape[2] - self.frames + 1, (size,), device=device),
            level=torch.rand(size, device=device),
            noise=torch.randn(size, songs.shape[3], self.frames, device=device),
            whole=(torch.rand(size, device=device) < 0.5).float(),
            told=(torch.rand(size, device=device) >= self.recipe.drop_text).float(),
        )

    def forward(self, batch: Batch) -> Tensor:
        """Mean squared v-error of a batch."""
        frames = batch.start[:, None] + torch.arange(self.frames, device=batch.start.device)
        clean = self.latents[batch.song[:, None], batch.phase[:, None], frames].transpose(1, 2)
        starts = batch.start * FRAME_S * (1 - batch.whole)
        totals = FRAME_S * (batch.whole * self.frames + (1 - batch.whole) * self.latents.shape[2])
        cond = self.conditioning(self.tokens[batch.song], self.real[batch.song], (starts, totals, batch.told))
        return self.error(clean, batch.level, batch.noise, cond).mean()

    def error(self, clean: Tensor, level: Tensor, noise: Tensor, cond: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared v-error of every sample: clean and noise [b, c, f], level [b] → [b]."""
        alpha, sigma = (f(level * (math.pi / 2))[:, None, None] for f in (torch.cos, torch.sin))
        predicted = self.denoiser(
            alpha * clean + sigma * noise,
            timestep(self.scheduler, level),
            encoder_hidden_states=cond[0],
            global_hidden_states=cond[1],
            rotary_embedding=(self.cosine, self.sine),
            return_dict=False,
        )[0]
        return (predicted.float() - (alpha * noise - sigma * clean)).square().mean((1, 2))

    def conditioning(self, tokens: Tensor, real: Tensor, told: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Cross-attention tokens and global timing, as the pipeline makes them at generation.

        tokens, real: caption words and which of them are any [b, w]; told: begin, total in seconds, and 1 where the
        denoiser is told the text at all, else 0 [b].
        """
        starts, totals, text_told = told
        # A ready four-dimensional mask: the library's own construction waits for the device and cannot be captured.
        blocked = torch.where(real[:, None, None] > 0, 0.0, torch.finfo(torch.float32).min)
        hidden = self.text(tokens, attention_mask=blocked.expand(-1, 1, tokens.shape[1], -1))[0]
        text = self.timing(text_hidden_states=hidden).text_hidden_states * real[..., None]
        timing = self.timing(start_seconds=starts, end_seconds=totals)
        begin, end = timing.seconds_start_hidden_states, timing.seconds_end_hidden_states
        return torch.cat([text, begin, end], 1) * text_told[:, None, None], torch.cat([begin, end], 2)


def tokenised(tokenizer: object, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Words of each caption as numbers, and 1.0 where there is a word: [n, w] each."""
    tokens = tokenizer(
        list(captions), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
        return_tensors="pt",
    )  # fmt: skip
    return tokens.input_ids, tokens.attention_mask.float()


class Training:
    """A learner with its optimiser, its moving average and its schedule, all on the device."""

    def __init__(self, learner: Learner, compiled: bool) -> None:
        self.learner, self.recipe = learner, learner.recipe
        device = learner.latents.device
        self.parameters = learner.weights()
        self.averages = [w.detach().clone() for w in self.parameters]
        self.number, self.steps, self.loss = (torch.zeros((), device=device) for _ in range(3))
        self.rate = torch.zeros((), device=device)
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=self.rate, betas=(0.9, 0.98), weight_decay=self.recipe.decay,
            fused=device.type == "cuda", capturable=device.type == "cuda",
        )  # fmt: skip
        self.objective = torch.compile(learner, dynamic=False) if compiled else learner

    def begin(self, run: Run, initial: Sequence[Tensor]) -> None:
        """Forget what was learned: put the `initial` weights in, and draw from the run's songs from now on."""
        with torch.no_grad():
            for weight, average, first in zip(self.parameters, self.averages, initial, strict=True):
                weight.copy_(first)
                average.copy_(first)
            for state in self.optimiser.state.values():
                for value in state.values():
                    value.zero_()
            self.learner.drawn[: len(run.songs)] = torch.tensor(run.songs, device=self.rate.device)
            self.learner.count.fill_(len(run.songs))
            self.number.zero_()
            self.loss.zero_()
            self.steps.fill_(run.steps)

    def update(self) -> None:
        """One step of the optimiser and of the average: linear warm-up, then half a cosine to zero."""
        warm = ((self.number + 1) / self.recipe.warmup).clamp(max=1)
        decay = 0.5 * (1 + torch.cos(math.pi * (self.number / self.steps).clamp(max=1)))
        self.rate.copy_(self.recipe.rate * warm * decay)
        self.optimiser.zero_grad(set_to_none=True)
        cuda = self.rate.is_cuda
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda, cache_enabled=False):
            loss = self.objective(self.learner.draw())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimiser.step()
        torch._foreach_lerp_(self.averages, self.parameters, 1 - self.recipe.average)
        self.loss.lerp_(loss.detach(), 0.02)
        self.number.add_(1)

    def finish(self) -> None:
        """Put the averaged weights in."""
        with torch.no_grad():
            for weight, average in zip(self.parameters, self.averages, strict=True):
                weight.copy_(average)


class Cohort:
    """Trainings that run side by side, step by step; on a GPU their steps are one CUDA graph of parallel branches."""

    def __init__(self, learners: Sequence[Learner], compiled: bool | None = None) -> None:
        self.cuda = learners[0].latents.is_cuda
        self.members = [Training(learner, self.cuda if compiled is None else compiled) for learner in learners]
        self.graph = self._capture() if self.cuda else None

    def train(self, runs: Sequence[Run], initial: Sequence[Sequence[Tensor]]) -> None:
        """Train one run a member, all of equally many steps; leaves the averaged weights in the learners."""
        if len(runs) != len(self.members) or len({run.steps for run in runs}) != 1:
            raise ValueError("a cohort trains one run a member, all of the same number of steps")
        for member, run, weights in zip(self.members, runs, initial, strict=True):
            member.begin(run, weights)
        torch.manual_seed(runs[0].seed)
        for _ in range(runs[0].steps):
            self._step()
        for member in self.members:
            member.finish()

    def _step(self) -> None:
        if self.graph is not None:
            self.graph.replay()
            return
        for member in self.members:
            member.update()

    def _capture(self) -> torch.cuda.CUDAGraph:
        weights = [[w.detach().clone() for w in member.parameters] for member in self.members]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for member, initial in zip(self.members, weights, strict=True):
                member.begin(Run((0,), 0, 10), initial)
                for _ in range(3):
                    member.update()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        for member in self.members:
            member.optimiser.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._branches()
        return graph

    def _branches(self) -> None:
        """Every member's update on a stream of its own, joined at the end."""
        main = torch.cuda.current_stream()
        streams = [torch.cuda.Stream() for _ in self.members]
        for member, stream in zip(self.members, streams, strict=True):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                member.update()
        for stream in streams:
            main.wait_stream(stream)


def learners(folder: Path, recipe: Recipe, device: torch.device, count: int = 1) -> list[Learner]:
    """Return `count` learners of the untrained pipeline and latents in `folder`, on `device`."""
    latents, captions, made = unpacked(folder / "latents.safetensors"), captions_of(folder), []
    for _ in range(count):
        pipeline = load_pipeline(folder / "pipeline", torch.device("cpu"))
        made.append(Learner(pipeline, latents, captions, recipe).to(device).requires_grad_(True).train())
    return made


def initial_weights(learner: Learner, seed: int) -> list[Tensor]:
    """Return freshly initialised weights of the learner's parts, a function of `seed` alone, on its device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = [
            type(learner.denoiser).from_config(learner.denoiser.config),
            type(learner.text)(learner.text.config),
            type(learner.timing).from_config(learner.timing.config),
        ]
    device = learner.latents.device
    return [p.detach().to(device, torch.float32) for part in fresh for p in part.parameters()]


def save_trained(learner: Learner, pipeline: Path) -> None:
    """Write the learner's parts into the `pipeline` folder in half precision; the learner is of no use afterwards."""
    for name, part in zip(TRAINED, (learner.denoiser, learner.text, learner.timing), strict=True):
        part.half().save_pretrained(pipeline / name, safe_serialization=True)


def main() -> None:
    """Train and write the weights over those in the pipeline folder (or into --out)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    recipe, device = Recipe(epochs=options.epochs), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    (learner,) = learners(options.folder, recipe, device)
    songs = len(learner.latents)
    run = Run(tuple(range(songs)), options.seed, recipe.steps(songs))
    begun = time.perf_counter()
    cohort = Cohort([learner])
    cohort.train([run], [initial_weights(learner, options.seed)])
    loss = cohort.members[0].loss.item()
    out = options.out or options.folder
    save_trained(learner, out / "pipeline")
    machine = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    seconds = round(time.perf_counter() - begun, 1)
    happened = {"steps": run.steps, "seed": run.seed, "final_loss": round(loss, 4), "seconds": seconds}
    record = {**asdict(recipe), **happened, "device": machine, "torch": torch.__version__}
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    print(record)


if __name__ == "__main__":
    main()
