"""The index of one model and its training set: opened or refused, and what a query asks of it.

Every song's segments are kept as projected gradients (arXiv 2303.14186, 2405.13954), as latents (so that finite-step
unlearning needs no audio) and as the few facts that their conditioning is made of again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from worker.attribution.calibrate import Background
from worker.attribution.curvature import DiagonalFisher, ProjectedCurvature
from worker.attribution.influence import scale_rows, signed_power
from worker.attribution.types import Conditioning, Model, Segments
from worker.fitting import fit_curvature, pieces
from worker.manifest import IndexConfig, Manifest
from worker.plan import FORGOTTEN, UNRELATED
from worker.requests import gradient_rows as gradient_rows
from worker.requests import row_requests as row_requests
from worker.requests import unlearn_probe as unlearn_probe
from worker.scan import Scan, Scans, scan_of
from worker.shards import Bytes, Shard, expand_positive, read
from worker.sums import SongSums
from worker.verifying import Expected as Expected
from worker.verifying import require, verify

BACKGROUND = "background.safetensors"
CURVATURE = "curvature.safetensors"
FISHER = "fisher.safetensors"
_CPU = torch.device("cpu")


class Pipeline(Model, Protocol):
    """A model that can also make the conditioning of segments again, from what was said of them."""

    def condition(self, prompts: Sequence[str | None], starts: Tensor, totals: Tensor) -> Conditioning:
        """Return the conditioning of s segments: their prompts, starts [s] and songs' lengths [s] in seconds."""
        ...


@dataclass(frozen=True)
class Index:
    """An opened index; segments are numbered in the order of `manifest.stored`, songs in that of `manifest.songs`.

    shard: everything kept of the segments; background_rows: of unrelated generated queries [b, m, k]; packed_fisher:
    the diagonal Fisher, packed; forgotten_sums, unrelated_sums: of every stored song [b, stored], what finite-step
    unlearning of a background track did to it, and its first-order score before the power; fitted: the curvature;
    where these two are None, as in indexes of format 2, they are computed of the rows. device: where rows are scanned
    and scores are weighed.
    """

    manifest: Manifest
    shard: Shard
    background_rows: Bytes
    packed_fisher: dict[str, Tensor]
    forgotten_sums: Tensor
    unrelated_sums: Tensor | None = None
    fitted: ProjectedCurvature | None = None
    device: torch.device = _CPU

    @classmethod
    def open(cls, folder: Path, expected: Expected, device: torch.device = _CPU, version: str | None = None) -> "Index":
        """Open the newest index in `folder`, or that of the digest `version`, to be scanned on `device`.

        Raises IndexMismatch when it was made for another model or catalogue, or was changed since.
        """
        manifest = Manifest.read(folder, version)
        require(manifest, folder, expected, newest=version is None)
        verify(folder, manifest.files)
        return cls.assembled(manifest, {name: read(folder / name) for name in manifest.files}, device)

    @classmethod
    def assembled(cls, manifest: Manifest, files: dict[str, dict[str, Tensor]], device: torch.device = _CPU) -> "Index":
        """Put an index together from the tensors of its `files`."""
        background = files[BACKGROUND]
        sums = {
            prefix: [files[name]["scores"] for name in sorted(files) if name.startswith(prefix)]
            for prefix in (FORGOTTEN, UNRELATED)
        }
        return cls(
            manifest=manifest,
            shard=Shard.stacked([files[name] for name in manifest.shards]),
            background_rows=Bytes(background["rows"], background["row_scale"]),
            packed_fisher=files[FISHER],
            forgotten_sums=torch.cat(sums[FORGOTTEN], 1),
            unrelated_sums=torch.cat(sums[UNRELATED], 1) if sums[UNRELATED] else None,
            fitted=ProjectedCurvature.from_state(files[CURVATURE]) if CURVATURE in files else None,
            device=device,
        )

    @property
    def config(self) -> IndexConfig:
        """The choices that the rows depend on."""
        return self.manifest.config

    @property
    def keys(self) -> list[str]:
        """The ranked songs' keys, in order."""
        return [song.key for song in self.manifest.songs]

    def __len__(self) -> int:
        return len(self.shard.song)

    def segments(self, model: Pipeline, chosen: Tensor) -> Segments:
        """Return the kept segments numbered `chosen` [m], conditioned as they were in training."""
        return kept_segments(model, self.shard, self._captions, chosen)

    @cached_property
    def _captions(self) -> list[str | None]:
        return [song.caption for song in self.manifest.stored]

    def rows(self, chosen: slice | Tensor = slice(None)) -> Tensor:
        """Return the `chosen` rows in the index's row scaling, the parts of all measures side by side: [n, m k]."""
        return self.joint(self.shard.rows.floats(chosen))

    def joint(self, rows: Tensor) -> Tensor:
        """Return K(g): every measure's part of rows [..., m, k] in the index's row scaling, side by side [..., m k]."""
        return scale_rows(rows, self.config.row_scale).flatten(-2)

    def parts(self, joint: Tensor) -> Tensor:
        """Return joint vectors [..., m k] measure by measure: [..., m, k]."""
        return joint.reshape(*joint.shape[:-1], len(self.config.measures), -1)

    @cached_property
    def curvature(self) -> ProjectedCurvature:
        """The curvature of the songs that the index was first built on; later ones leave it as it is."""
        if self.fitted is not None:
            return self.fitted
        rows = int((self.shard.song < self.manifest.fitted_songs).sum())
        return fit_curvature((self.rows(piece) for piece in pieces(0, rows)), self.config.damping)

    def fisher(self, device: torch.device) -> DiagonalFisher:
        """Return the damped diagonal Fisher information of the selected weights, on `device`."""
        return unpacked_fisher(self.packed_fisher, self.config, device)

    @cached_property
    def background(self) -> Background:
        """Scores [b, songs] of the unrelated queries."""
        sums = self.unrelated_sums
        if sums is None:
            sums = self.sums.of(self.scan(self.solved(self.background_rows.floats())))
        return Background(self.scored(sums.to(self.device)))

    @cached_property
    def forgotten(self) -> Background:
        """What finite-step unlearning of unrelated tracks did to every song [b, songs]."""
        return Background(self._of_songs(self.forgotten_sums.to(self.device)))

    def segments_of(self, song: int) -> slice:
        """Return where the segments of the song numbered `song` lie, those of its duplicates left out."""
        number = self.manifest.numbers[song]
        return slice(self._bounds[number], self._bounds[number + 1])

    @cached_property
    def _bounds(self) -> list[int]:
        return [0, *accumulate(song.segments for song in self.manifest.stored)]

    def factors(self, rows: Tensor) -> Tensor:
        """Return by what the row scaling multiplies each measure's part of rows [..., m, k]: [..., m]."""
        raw, scaled = rows.norm(dim=-1), scale_rows(rows, self.config.row_scale).norm(dim=-1)
        return torch.where(raw > 0, scaled / raw, 1.0)

    def solved(self, queries: Tensor) -> Tensor:
        """Return C⁻¹ K(q) [..., m k] for projected query gradients [..., m, k]."""
        return self.solve(self.joint(queries.cpu()))

    def solve(self, joint: Tensor) -> Tensor:
        """Return C⁻¹ v for joint vectors [..., m k], computed on the index's device and returned where they lie."""
        return self._solver.solve(joint)

    @cached_property
    def _solver(self) -> ProjectedCurvature:
        return ProjectedCurvature(self.curvature.factor.to(self.device))

    @cached_property
    def scanner(self) -> Scan | Scans:
        """The rows, ready to be scanned on the index's device."""
        return scan_of(self.shard.rows, self.config.row_scale, self.device)

    def scan(self, solved: Tensor) -> Tensor:
        """Return the first-order scores [q, segments] of `solved` queries [q, m k], on the index's device."""
        return self.scanner.scores(self.parts(solved))

    def by_song(self, scores: Tensor) -> Tensor:
        """Return song scores [..., songs]: the segments' scores of a song and its duplicates, weighted by their draws.

        In float64 and in the order of the segments; what was removed counts nowhere.
        """
        return self._of_songs(self.sums.of(scores))

    @cached_property
    def sums(self) -> SongSums:
        """How segments' scores add up to sums of the stored songs."""
        return SongSums(self.shard.song, self.shard.weight, len(self.manifest.stored), self.device)

    def _of_songs(self, sums: Tensor) -> Tensor:
        """Return sums [..., stored] song by song [..., songs]; none of them depends on another's."""
        found = sums.double()
        if len(self._numbers) < found.shape[-1]:
            found = found[..., self._numbers.to(found.device)]
        elif self.manifest.duplicates:
            found = found.clone()
        for at, place in self.manifest.duplicates:
            found[..., place] += sums[..., at]
        return found

    @cached_property
    def _numbers(self) -> Tensor:
        return torch.tensor(self.manifest.numbers)

    def song_scores(self, scores: Tensor) -> Tensor:
        """Return the index's song scores [..., songs]: the signed power of each song's sum over its segments."""
        return self.scored(self.sums.of(scores))

    def scored(self, sums: Tensor) -> Tensor:
        """Return the same of the stored songs' sums [..., stored]."""
        return signed_power(self._of_songs(sums), self.config.song_power)


def kept_segments(model: Pipeline, shard: Shard, captions: Sequence[str | None], chosen: Tensor) -> Segments:
    """Return the segments `chosen` [m] of `shard`, captions by position of the song."""
    told = [captions[song] for song in shard.song[chosen].tolist()]
    cond = model.condition(told, shard.starts[chosen], shard.totals[chosen])
    return Segments(shard.latents.floats(chosen), shard.mask[chosen].float(), cond)


def unpacked_fisher(packed: dict[str, Tensor], config: IndexConfig, device: torch.device) -> DiagonalFisher:
    """Return the diagonal Fisher that a file of the index keeps, damped, on `device`."""
    diagonal = {name: value.to(device) for name, value in expand_positive(packed).items()}
    return DiagonalFisher.of(diagonal, config.fisher_damping)
