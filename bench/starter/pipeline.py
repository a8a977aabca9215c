"""The starter's untrained pipeline in Stable Audio's layout: `python -m bench.starter.pipeline build/starter`."""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import torch

from worker.diffusion.spectral import SpectralAutoencoder  # first: it makes torchaudio importable

from diffusers import EDMDPMSolverMultistepScheduler, StableAudioDiTModel, StableAudioPipeline  # isort: skip
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel


@dataclass(frozen=True)
class Size:
    """How large the pieces are."""

    layers: int = 4
    heads: int = 3
    head_width: int = 64
    frames: int = 120
    text_width: int = 64
    text_layers: int = 2
    longest_prompt: int = 16


def tokenizer(captions: list[str], size: Size) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the words of the captions; other words become <unk>."""
    words = sorted({word for caption in captions for word in caption.lower().split()})
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 (a word, not a secret)
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=size.longest_prompt, **special)


def untrained(captions: list[str], autoencoder: SpectralAutoencoder, size: Size) -> StableAudioPipeline:
    """Build the pipeline around a fitted autoencoder; weights are PyTorch's defaults."""
    words = tokenizer(captions, size)
    width, channels = size.text_width, autoencoder.config.latent_channels
    text = T5Config(
        vocab_size=len(words), d_model=width, d_kv=16, d_ff=4 * width, num_layers=size.text_layers, num_heads=4,
        dropout_rate=0.0, feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    denoiser = StableAudioDiTModel(
        sample_size=size.frames, in_channels=channels, out_channels=channels, num_layers=size.layers,
        attention_head_dim=size.head_width, num_attention_heads=size.heads, num_key_value_attention_heads=size.heads,
        cross_attention_dim=size.heads * size.head_width, cross_attention_input_dim=width,
        global_states_input_dim=2 * width,
    )  # fmt: skip
    return StableAudioPipeline(
        vae=autoencoder,
        text_encoder=T5EncoderModel(text),
        projection_model=StableAudioProjectionModel(
            text_encoder_dim=width, conditioning_dim=width, min_value=0, max_value=512
        ),
        tokenizer=words,
        transformer=denoiser,
        scheduler=EDMDPMSolverMultistepScheduler(
            sigma_min=0.03, sigma_max=200.0, sigma_data=1.0, sigma_schedule="exponential",
            prediction_type="v_prediction",
        ),
    )  # fmt: skip


def captions_of(folder: Path) -> list[str]:
    """The captions in `folder`/songs.csv, in order."""
    with (folder / "songs.csv").open(newline="") as file:
        return [row["caption"] for row in csv.DictReader(file)]


def main() -> None:
    """Write the untrained pipeline beside the prepared data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.manual_seed(0)
    autoencoder = SpectralAutoencoder.from_pretrained(folder / "pipeline" / "vae", low_cpu_mem_usage=False)
    pipeline = untrained(captions_of(folder), autoencoder, Size())
    pipeline.save_pretrained(folder / "pipeline", safe_serialization=True)
    print(f"denoiser: {sum(p.numel() for p in pipeline.transformer.parameters()) / 1e6:.2f}M parameters")


if __name__ == "__main__":
    main()
