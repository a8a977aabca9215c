"""The folder of a StableAudioPipeline: which classes it may name, how it is loaded, and its fingerprint."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import StableAudioPipeline

_CHUNK = 1 << 20
_CLASSES = {
    "transformer": {"StableAudioDiTModel": "diffusers"},
    "vae": {"AutoencoderOobleck": "diffusers", "SpectralAutoencoder": "worker.diffusion.spectral"},
    "text_encoder": {"T5EncoderModel": "transformers"},
    "projection_model": {"StableAudioProjectionModel": "diffusers.pipelines.stable_audio"},
    "tokenizer": dict.fromkeys(
        ("T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"), "transformers"
    ),
    "scheduler": dict.fromkeys(("EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler"), "diffusers"),
}
_NEURAL = ("transformer", "vae", "text_encoder", "projection_model")


class UnsupportedPipeline(Exception):
    """The folder does not hold a pipeline that this adapter can serve faithfully."""


def load_pipeline(folder: Path, device: torch.device) -> StableAudioPipeline:
    """Load the pipeline in `folder` in float32, from local safetensors files alone, and freeze it.

    Classes are taken from a fixed list, never from what the folder asks to import. Raises UnsupportedPipeline.
    """
    named = _read_json(folder / "model_index.json")
    if named.get("_class_name") != "StableAudioPipeline":
        raise UnsupportedPipeline(f"{folder} holds {named.get('_class_name')}, not a StableAudioPipeline")
    parts = {part: _load_part(folder, part, named) for part in _CLASSES}
    for name in _NEURAL:
        parts[name].float().eval().requires_grad_(False)
    _check_scheduler(parts["scheduler"])
    pipeline = StableAudioPipeline(**parts).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def digest(folder: Path) -> str:
    """Return the SHA-256 of every file below `folder`: sorted relative paths, each with its length and contents."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                total.update(chunk)
    return total.hexdigest()


def _load_part(folder: Path, part: str, named: dict[str, Any]) -> Any:
    name = (named.get(part) or [None, None])[1]
    module = _CLASSES[part].get(name)
    if module is None:
        raise UnsupportedPipeline(f"{part} is a {name}; known are {', '.join(_CLASSES[part])}")
    kind = getattr(importlib.import_module(module), name)
    options = {"use_safetensors": True, "low_cpu_mem_usage": False} if part in _NEURAL else {}
    try:
        return kind.from_pretrained(str(folder / part), local_files_only=True, **options)
    except (OSError, ImportError, ValueError, RuntimeError) as error:
        raise UnsupportedPipeline(f"{part} in {folder} cannot be loaded: {error}") from error


def _check_scheduler(scheduler: Any) -> None:
    config = scheduler.config
    if config.prediction_type != "v_prediction" or config.sigma_data != 1.0:
        raise UnsupportedPipeline(
            "the scheduler must predict v over data of unit deviation, not "
            f"{config.prediction_type} over data of deviation {config.sigma_data}"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UnsupportedPipeline(f"{path} cannot be read: {error}") from error
