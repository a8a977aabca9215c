"""The tracks that methods and truth are asked about: `python -m bench.faithfulness.queries MODEL WORK`.

MODEL/pipeline generates under mixed prompts, with guidance, as the service would; every track is decoded to audio and
encoded again, as an upload would be. Held-out recordings come twice: under their caption and under none. WORK holds
what `bench.starter.prepare` wrote; queries.json and queries.safetensors are written there.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.starter.pipeline import captions_of  # first: it makes torchaudio importable
from bench.starter.prepare import HELD_OUT_WINDOWS
from bench.starter.prompts import BACKGROUND, mixed

from worker.diffusion.layout import digest  # isort: skip
from worker.diffusion.stable_audio import Sampling, StableAudio, load

if TYPE_CHECKING:
    from collections.abc import Sequence

GENERATED, TUNE_GENERATED, TUNE_SONGS = 128, 48, 12
FIRST_SEED = 5_000
TOGETHER = 32


@dataclass(frozen=True)
class QueryFacts:
    """One query: a generated track (prompt, seed) or a window of a held-out song, and what it may be used for."""

    id: str
    kind: str
    condition: str
    split: str
    prompt: str | None
    seed: int | None
    song: str | None


def generated(captions: Sequence[str]) -> list[QueryFacts]:
    """The generated queries: prompts that no song was trained under and the background does not use."""
    prompts = mixed(captions, BACKGROUND + GENERATED)[BACKGROUND:]
    return [
        QueryFacts(f"generated-{n:03d}", "generated", "caption", _side(n, TUNE_GENERATED), prompt, FIRST_SEED + n, None)
        for n, prompt in enumerate(prompts)
    ]


def held_out(rows: Sequence[dict[str, str]]) -> list[QueryFacts]:
    """Every held-out song's windows under its caption, then the same under the null condition; split by song."""
    order = list(range(len(rows)))
    random.Random("held out").shuffle(order)  # noqa: S311
    return [
        QueryFacts(f"{row['key']}-{window}-{condition}", "held_out", condition, _side(order[number], TUNE_SONGS),
                   row["caption"] if condition == "caption" else None, None, row["key"])
        for condition in ("caption", "null")
        for number, row in enumerate(rows)
        for window in HELD_OUT_WINDOWS
    ]  # fmt: skip


@torch.no_grad()
def tracks(model: StableAudio, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """Generate one window a prompt and return the latents of the audio, encoded again: [q, c, f].

    Noise comes from a CPU generator a seed, as in `StableAudio.generate`; several prompts share the passes.
    """
    found, how = [], Sampling()
    for at in range(0, len(prompts), TOGETHER):
        noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds[at : at + TOGETHER]]
        answer = model.pipeline(
            list(prompts[at : at + TOGETHER]), audio_end_in_s=model.form.seconds, num_inference_steps=how.steps,
            guidance_scale=how.guidance, generator=noise, output_type="pt",
        )  # fmt: skip
        audio = answer.audios.float()
        audio = audio / audio.abs().amax((1, 2), keepdim=True).clamp(min=1.0)
        stored = (audio * 32767).round() / 32768
        found.append(model.latents(stored))
        print(f"{min(at + TOGETHER, len(prompts))} of {len(prompts)} tracks", flush=True)
    return torch.cat(found)


def _side(number: int, tune: int) -> str:
    return "tune" if number < tune else "test"


def main() -> None:
    """Generate, join with the held-out windows, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    model = load(options.model / "pipeline", "cuda" if torch.cuda.is_available() else "cpu")
    made = generated(captions_of(options.work))
    latents = tracks(model, [q.prompt or "" for q in made], [q.seed or 0 for q in made])
    with (options.work / "held_out.csv").open(newline="") as file:
        unseen = held_out(list(csv.DictReader(file)))
    windows = load_file(options.work / "held_out.safetensors")["latents"].float()
    model_digest = digest(options.model / "pipeline")
    rows = [asdict(q) | {"model_digest": model_digest} for q in [*made, *unseen]]
    (options.work / "queries.json").write_text(json.dumps(rows, indent=0) + "\n")
    every = torch.cat([latents, windows, windows])
    save_file({"latents": every.half().contiguous()}, options.work / "queries.safetensors")
    print(f"{len(every)} queries of {model_digest[:12]}")


if __name__ == "__main__":
    main()
