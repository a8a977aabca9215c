"""What was fitted on retrainings and on tracks of known origin, kept beside a model: calibration.json.

A model without the file answers too: its tracks' provenance is unknown and its shares are uncalibrated.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from worker.attribution.calibrate import Scale
from worker.attribution.provenance import UNKNOWN, Gate, Provenance, spectral_distance
from worker.manifest import IndexMismatch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from worker.diffusion.windows import Windows
    from worker.manifest import Manifest

FORMAT = 1
NAME = "calibration.json"
METHOD = "index"
HEARD = 4


@dataclass(frozen=True)
class Calibration:
    """The gate of provenance and the scale of effects of one model; the scale is of the scores of `METHOD`.

    scored_by: `score_digest` of the index whose scores the scale was fitted on: another has another unit.
    """

    model_digest: str
    scored_by: str
    gate: Gate
    scale: Scale

    @classmethod
    def read(cls, folder: Path, manifest: Manifest) -> Calibration | None:
        """Read the file in `folder`, None where there is none.

        Raises IndexMismatch when it is of another model, kind of index or format than `manifest`, or cannot be read.
        """
        path = folder / NAME
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text())
            found = cls._from_json(content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexMismatch(f"{path} cannot be read: {error!r}") from error
        if found.model_digest != manifest.model_digest:
            raise IndexMismatch(f"{path} was fitted for model {found.model_digest[:12]}, not this one")
        if found.scored_by != score_digest(manifest):
            raise IndexMismatch(f"{path} was fitted on the scores of an index that was made otherwise")
        return found

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> Calibration:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, not {FORMAT}")
        gate, scale = Gate(**content["gate"]), Scale(**content["scale"])
        return cls(str(content["model_digest"]), str(content["scored_by"]), gate, scale)

    def save(self, folder: Path) -> Path:
        """Write the file into `folder`, whole or not at all."""
        partial = folder / f"{NAME}.partial"
        partial.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")
        return partial.replace(folder / NAME)

    def scale_of(self, method: str) -> Scale | None:
        """Return what a score of `method` costs, None where that was not fitted."""
        return self.scale if method == METHOD else None

    def provenance(self, autoencoder: Any, windows: Windows) -> Provenance:
        """Judge a track by up to `HEARD` of its windows that hold music, unknown where none does."""
        distance = autoencoder_distance(autoencoder, windows)
        return UNKNOWN if distance is None else self.gate.judge(distance)


def score_digest(manifest: Manifest) -> str:
    """Return the SHA-256 of what the unit of an index's scores depends on; adding songs leaves it as it is.

    So do fewer bits a number: rows are scaled after rounding, and what that takes from a score is measured
    (bench/results/scale.json, `four_bits`).
    """
    config = replace(manifest.config, bits=8).said()
    said = {"model": manifest.model_digest, "config": config, "fitted_songs": manifest.fitted_songs}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def autoencoder_distance(autoencoder: Any, windows: Windows) -> float | None:
    """Return how far `autoencoder` (encode, decode, device) takes a track from itself, None where it has no music.

    `HEARD` windows spread over the track are enough, one at a time: decoding costs more than everything else of them.
    """
    musical = windows.mask.any(1).nonzero().flatten()
    if not len(musical):
        return None
    places = torch.linspace(0, len(musical) - 1, min(HEARD, len(musical))).round().long()
    chosen = musical[places].tolist()
    music = torch.stack([windows.mask[at].double().sum() for at in chosen])
    apart = [_distance(autoencoder, windows.audio[at : at + 1], windows.mask[at : at + 1]) for at in chosen]
    return float((torch.tensor(apart, dtype=torch.float64) * music).sum() / music.sum())


@torch.no_grad()
def _distance(autoencoder: Any, audio: Tensor, mask: Tensor) -> float:
    latents = autoencoder.encode(audio.to(autoencoder.device)).latent_dist.mode()
    rebuilt = autoencoder.decode(latents).sample.float().cpu()[..., : audio.shape[-1]]
    return spectral_distance(audio, rebuilt, mask)
