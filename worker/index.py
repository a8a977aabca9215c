"""The index of one model and its training set: opened or refused, and what a query asks of it.

Every song's segments are kept as projected gradients (arXiv 2303.14186, 2405.13954), as latents (so that finite-step
unlearning needs no audio) and as the few facts that their conditioning is made of again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from worker.attribution.calibrate import Background
from worker.attribution.curvature import DiagonalFisher, ProjectedCurvature
from worker.attribution.gradients import Request
from worker.attribution.influence import by_song, first_order, scale_rows
from worker.attribution.measure import Probe
from worker.attribution.noise import Grid
from worker.attribution.projection import SJLT
from worker.attribution.types import Conditioning, Model, Segments
from worker.manifest import IndexConfig, IndexMismatch, Manifest, catalogue_digest
from worker.plan import FORGOTTEN
from worker.shards import Bytes, Shard, expand_positive, read

BACKGROUND = "background.safetensors"
FISHER = "fisher.safetensors"
_ROWS_AT_ONCE = 65536


class Pipeline(Model, Protocol):
    """A model that can also make the conditioning of segments again, from what was said of them."""

    def condition(self, prompts: Sequence[str | None], starts: Tensor, totals: Tensor) -> Conditioning:
        """Return the conditioning of s segments: their prompts, starts [s] and songs' lengths [s] in seconds."""
        ...


@dataclass(frozen=True)
class Expected:
    """What an index must have been made for: the digest of the model, and the catalogue's song keys."""

    model_digest: str
    keys: Iterable[str]


@dataclass(frozen=True)
class Index:
    """An opened index; segments are numbered from 0 in the order of `manifest.songs`.

    shard: everything kept of the segments; background: rows of unrelated generated queries [b, k]; forgotten: what
    finite-step unlearning of each of them did to every song [b, songs]; packed_fisher: the diagonal Fisher, packed.
    """

    manifest: Manifest
    shard: Shard
    background_rows: Bytes
    forgotten: Background
    packed_fisher: dict[str, Tensor]

    @classmethod
    def open(cls, folder: Path, expected: Expected) -> "Index":
        """Open the index in `folder`, every file checked against the manifest.

        Raises IndexMismatch when it was made for another model or catalogue, or was changed since.
        """
        manifest = Manifest.read(folder)
        if manifest.model_digest != expected.model_digest:
            raise IndexMismatch(f"the index in {folder} was made for model {manifest.model_digest[:12]}, not this one")
        if catalogue_digest(expected.keys) != catalogue_digest(song.key for song in manifest.songs):
            raise IndexMismatch(f"the index in {folder} was made for other songs than the catalogue names")
        files = {name: read(folder / name, checksum) for name, checksum in manifest.files.items()}
        background = files[BACKGROUND]
        return cls(
            manifest=manifest,
            shard=Shard.cat([Shard.from_tensors(files[name]) for name in manifest.shards]),
            background_rows=Bytes(background["rows"], background["row_scale"]),
            forgotten=Background(
                torch.cat([files[name]["scores"] for name in sorted(files) if name.startswith(FORGOTTEN)], 1)
            ),
            packed_fisher=files[FISHER],
        )

    @property
    def config(self) -> IndexConfig:
        """The choices that the rows depend on."""
        return self.manifest.config

    @property
    def keys(self) -> list[str]:
        """The songs' keys, in order."""
        return [song.key for song in self.manifest.songs]

    def __len__(self) -> int:
        return len(self.shard.song)

    def segments(self, model: Pipeline, chosen: Tensor) -> Segments:
        """Return the kept segments numbered `chosen` [m], conditioned as they were in training."""
        return kept_segments(model, self.shard, [song.caption for song in self.manifest.songs], chosen)

    def rows(self, chosen: slice | Tensor = slice(None)) -> Tensor:
        """Return the `chosen` rows [m, k] in the index's row scaling."""
        return scale_rows(self.shard.rows.floats(chosen), self.config.row_scale)

    @cached_property
    def curvature(self) -> ProjectedCurvature:
        """The curvature of the songs that the index was first built on; songs added later leave it as it is."""
        fitted = int((self.shard.song < self.manifest.fitted_songs).sum())
        return ProjectedCurvature.fit(self.rows(slice(0, fitted)), self.config.damping)

    def fisher(self, device: torch.device) -> DiagonalFisher:
        """Return the damped diagonal Fisher information of the selected weights, on `device`."""
        return unpacked_fisher(self.packed_fisher, self.config, device)

    @cached_property
    def background(self) -> Background:
        """Scores [b, songs] of the unrelated queries."""
        return Background(self.by_song(self.scan(self.solved(self.background_rows.floats()))))

    def segments_of(self, song: int) -> slice:
        """Return where the kept segments of the song numbered `song` lie."""
        return slice(self._bounds[song], self._bounds[song + 1])

    @cached_property
    def _bounds(self) -> list[int]:
        return [0, *accumulate(song.segments for song in self.manifest.songs)]

    def row_factors(self, chosen: Tensor) -> Tensor:
        """Return by what the row scaling multiplied the rows `chosen` [m]: [m]."""
        raw, scaled = self.shard.rows.floats(chosen).norm(dim=-1), self.rows(chosen).norm(dim=-1)
        return torch.where(raw > 0, scaled / raw, 1.0)

    def solved(self, queries: Tensor) -> Tensor:
        """Return C⁻¹ K(q) [..., k] for projected query gradients [..., k], K the index's row scaling."""
        return self.curvature.solve(scale_rows(queries.cpu(), self.config.row_scale))

    def scan(self, solved: Tensor) -> Tensor:
        """Return the first-order scores [q, segments] of `solved` queries [q, k]."""
        pieces = [slice(i, i + _ROWS_AT_ONCE) for i in range(0, len(self), _ROWS_AT_ONCE)]
        return torch.cat([first_order(self.rows(piece), solved) for piece in pieces], -1)

    def by_song(self, scores: Tensor) -> Tensor:
        """Return song scores [..., songs]: each song's segment scores, weighted by how often training drew them."""
        return by_song(scores, self.shard.song, self.shard.weight, len(self.manifest.songs))


def kept_segments(model: Pipeline, shard: Shard, captions: Sequence[str | None], chosen: Tensor) -> Segments:
    """Return the segments `chosen` [m] of `shard`, captions by position of the song."""
    told = [captions[song] for song in shard.song[chosen].tolist()]
    cond = model.condition(told, shard.starts[chosen], shard.totals[chosen])
    return Segments(shard.latents.floats(chosen), shard.mask[chosen].float(), cond)


def unpacked_fisher(packed: dict[str, Tensor], config: IndexConfig, device: torch.device) -> DiagonalFisher:
    """Return the diagonal Fisher that a file of the index keeps, damped, on `device`."""
    return DiagonalFisher.of(
        {name: value.to(device) for name, value in expand_positive(packed).items()}, config.fisher_damping
    )


def row_request(config: IndexConfig, batch: int) -> Request:
    """Return how rows and queries are made: the same measure, draws, weights and projection for both."""
    probe = Probe(config.measure, Grid(config.grid_seed, config.draws), batch)
    return Request(probe, config.weights, SJLT(config.projection_seed, config.dim, config.nonzeros))


def unlearn_probe(config: IndexConfig, batch: int) -> Probe:
    """Return what finite-step unlearning measures, before and after."""
    return Probe(config.unlearn_measure, Grid(config.grid_seed, config.unlearn_draws), batch)
