"""A whole StableAudioPipeline, small enough to be trained from scratch in seconds, on synthetic songs.

The tests and the benchmarks of the service, whose subject is not the model, register it.

Eight songs of four windows (1.024 s at 8 kHz mono each) differ in timbre, register, melody and rhythm; two songs share
each caption, so that no caption gives a song away. The denoiser is trained until it half knows its 32 windows by heart.
"""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import worker.diffusion  # noqa: F401  # makes torchaudio importable, which diffusers imports

# isort: split
import numpy as np
import torch
from diffusers import AutoencoderOobleck, EDMDPMSolverMultistepScheduler, StableAudioDiTModel, StableAudioPipeline
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from worker.attribution.measure import schedule
from worker.attribution.types import Conditioning, Segments
from worker.build import background, subject
from worker.building import Material, build
from worker.diffusion.spectral import SpectralAutoencoder
from worker.diffusion.stable_audio import Sampling, StableAudio, load
from worker.diffusion.windows import Windows, cut
from worker.manifest import IndexConfig
from worker.training import TrainingSet, TrainingSong

RATE = 8000
FRAMES = 32
HOP = 256
WINDOWS = 4
WIDTH = 32
WINDOW = FRAMES * HOP


@dataclass(frozen=True)
class TinySong:
    """What a synthetic song is made of: harmonics' strengths, notes in Hz, notes a second, tremor."""

    key: str
    caption: str
    harmonics: tuple[float, ...]
    notes: tuple[float, ...]
    pace: float
    noise: float

    def samples(self) -> np.ndarray:
        """Return the whole song [1, n] float32."""
        rng = np.random.default_rng(int.from_bytes(self.key.encode(), "big") % 2**32)
        time = np.arange(WINDOWS * WINDOW) / RATE
        note = (time * self.pace).astype(int)
        pitch = np.array(self.notes)[rng.integers(0, len(self.notes), note.max() + 1)][note]
        phase = 2 * math.pi * np.cumsum(pitch) / RATE
        tone = sum(a * np.sin((n + 1) * phase) for n, a in enumerate(self.harmonics))
        decay = np.exp(-2.5 * ((time * self.pace) % 1))
        audio = tone * decay + self.noise * rng.standard_normal(len(time)) * decay**3
        return (0.4 * audio / np.abs(audio).max()).astype(np.float32)[None]


SONGS = (
    TinySong("alder", "slow low tune", (1.0,), (110.0, 131.0, 147.0), 2.0, 0.0),
    TinySong("birch", "fast high tune", (1.0, 0.1), (880.0, 988.0, 1175.0), 8.0, 0.0),
    TinySong("cedar", "slow low tune", (1.0, 0.9, 0.8, 0.7, 0.6), (98.0, 123.0, 165.0), 1.5, 0.0),
    TinySong("drift", "fast high tune", (1.0, 0.0, 0.8, 0.0, 0.6, 0.0, 0.5), (196.0, 220.0, 247.0), 6.0, 0.0),
    TinySong("ember", "noisy low drum", (0.4, 0.2), (60.0, 80.0), 3.0, 1.0),
    TinySong("frost", "slow high tune", (1.0, 0.7, 0.5, 0.3), (523.0, 587.0, 698.0), 2.5, 0.02),
    TinySong("grove", "noisy low drum", (0.3, 0.0, 0.3), (150.0, 90.0), 10.0, 0.6),
    TinySong("heath", "slow high tune", (0.2, 1.0), (1400.0, 1600.0, 1800.0), 1.0, 0.05),
)
CONFIG = IndexConfig(draws=16, check_draws=8, unlearn_draws=8, fisher_draws=8, dim=512, nonzeros=2, songs_per_shard=3)
COLUMNS = ("key", "title", "artist", "licence", "package", "path", "duration_s", "caption", "start_s", "isrc")
PROMPTS = ("fast low tune", "noisy high drum", "slow noisy tune", "fast low drum")


def untrained(vae: torch.nn.Module) -> StableAudioPipeline:
    """Return the pipeline around the autoencoder `vae` as drawn from seed 0, frozen."""
    torch.manual_seed(0)
    words = sorted({word for song in SONGS for word in song.caption.split()})
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokens = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    special = dict(zip(("pad_token", "eos_token", "unk_token"), list(vocabulary)[:3], strict=True))
    text = T5Config(vocab_size=len(vocabulary), d_model=WIDTH, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    parts = {
        "vae": vae,
        "text_encoder": T5EncoderModel(text),
        "projection_model": StableAudioProjectionModel(WIDTH, WIDTH, 0, 16),
        "transformer": StableAudioDiTModel(FRAMES, 16, 2, 32, 2, 1, 16, WIDTH, 32, 2 * WIDTH, WIDTH),
    }
    for part in parts.values():
        part.eval().requires_grad_(False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, model_max_length=6, **special)
    scheduler = EDMDPMSolverMultistepScheduler(0.05, 100.0, 1.0, "exponential", prediction_type="v_prediction")
    pipeline = StableAudioPipeline(**parts, tokenizer=tokenizer, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def oobleck() -> AutoencoderOobleck:
    """Return Stable Audio's own autoencoder in small, untrained."""
    torch.manual_seed(1)
    return AutoencoderOobleck(32, [4, 8, 8], [1, 2, 2], 16, 16, 1, RATE)


def spectral() -> SpectralAutoencoder:
    """Return a spectral autoencoder fitted to the songs."""
    vae = SpectralAutoencoder(sampling_rate=RATE, latent_channels=16, n_fft=512, n_mels=32, stack=2)
    songs = torch.from_numpy(np.stack([song.samples() for song in SONGS]))
    vae.fit(vae.features(songs).transpose(0, 1).flatten(1))
    return vae


def fit_denoiser(model: StableAudio, segments: Segments, steps: int) -> float:
    """Train the denoiser on the v-objective, one condition in eight dropped; return the last steps' mean loss."""
    module = model.module.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(module.parameters(), 3e-3, weight_decay=0.0)
    slope = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        level = torch.rand(len(segments))
        alpha, sigma = (x[:, None, None] for x in schedule(level))
        noise = torch.randn_like(segments.latents)
        told = (torch.rand(len(segments), 1, 1) > 1 / 8).float()
        cond = Conditioning(segments.cond.cross * told, segments.cond.mask, segments.cond.globals_)
        output = model.output({}, alpha * segments.latents + sigma * noise, level, cond)
        loss = (output - (alpha * noise - sigma * segments.latents)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slope.step()
        losses.append(loss.item())
    module.eval().requires_grad_(False)
    return sum(losses[-20:]) / 20


def windows_of(model: StableAudio, song: TinySong) -> Windows:
    """Return the song cut as the model takes it."""
    return cut(torch.from_numpy(song.samples()), RATE, model.form)


def training_set(model: StableAudio, songs: Sequence[TinySong] = SONGS) -> TrainingSet:
    """Return `songs` encoded under their captions."""
    cuts = [(windows_of(model, song), song.caption) for song in songs]
    segments = [(model.encode(windows, caption), windows.starts, windows.total) for windows, caption in cuts]
    return TrainingSet.of([TrainingSong(song.key, song.caption) for song in songs], segments)


def train(folder: Path) -> None:
    """Train the pipeline from scratch and save it in `folder`, which is then that of a registered model."""
    pipeline = untrained(spectral())
    model = StableAudio(pipeline)
    training = training_set(model)
    cond = model.condition(
        [training.songs[i].caption for i in training.song.tolist()], training.starts, training.totals
    )
    fit_denoiser(model, Segments(training.latents, training.mask, cond), 200)
    pipeline.save_pretrained(folder / "pipeline", safe_serialization=True)
    (folder / "prompts.json").write_text(json.dumps({"demo": PROMPTS[0], "background": PROMPTS}))
    with (folder / "songs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for song in SONGS:
            seconds = song.samples().shape[1] / RATE
            table.writerow([song.key, song.key.title(), "Tiny", "CC0-1.0", "", "", seconds, song.caption, 0, ""])


def material(model: StableAudio, songs: Sequence[TinySong] = SONGS) -> Material:
    """Return what the tiny index is made from."""
    return Material(training_set(model, songs), background(model, PROMPTS, 8, Sampling(steps=8)))


def make(folder: Path) -> Path:
    """Train the tiny model, build its index, and return the folder: that of a registered model."""
    train(folder)
    model = load(folder / "pipeline", "cpu")
    build(subject(model, folder, batch=32), material(model), CONFIG, folder / "index")
    return folder
