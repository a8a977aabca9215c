"""The index of one model and its training set: opened or refused, and what a query asks of it.

Every song's segments are kept as projected gradients (arXiv 2303.14186, 2405.13954), as latents (so that finite-step
unlearning needs no audio) and as the few facts that their conditioning is made of again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from worker.attribution.calibrate import Background
from worker.attribution.curvature import DiagonalFisher, ProjectedCurvature
from worker.attribution.gradients import Request, grouped, share
from worker.attribution.influence import by_song, first_order, scale_rows, signed_power
from worker.attribution.measure import Probe
from worker.attribution.noise import Grid
from worker.attribution.projection import SJLT
from worker.attribution.types import Conditioning, Model, Progress, Segments, silent
from worker.manifest import IndexConfig, IndexMismatch, Manifest
from worker.plan import FORGOTTEN, UNRELATED
from worker.shards import Bytes, Shard, expand_positive, read
from worker.verifying import verify

BACKGROUND = "background.safetensors"
CURVATURE = "curvature.safetensors"
FISHER = "fisher.safetensors"
_ROWS_AT_ONCE = 16384


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
    """An opened index; segments are numbered in the order of `manifest.stored`, songs in that of `manifest.songs`.

    shard: everything kept of the segments; background_rows: of unrelated generated queries [b, m, k]; packed_fisher:
    the diagonal Fisher, packed; forgotten_sums, unrelated_sums: of every stored song [b, stored], what finite-step
    unlearning of a background track did to it, and its first-order score before the power; fitted: the curvature.
    Where the last two are None, as in indexes of format 2, they are computed of the rows.
    """

    manifest: Manifest
    shard: Shard
    background_rows: Bytes
    packed_fisher: dict[str, Tensor]
    forgotten_sums: Tensor
    unrelated_sums: Tensor | None = None
    fitted: ProjectedCurvature | None = None

    @classmethod
    def open(cls, folder: Path, expected: Expected, version: str | None = None) -> "Index":
        """Open the newest index in `folder`, or that of the digest `version`, its files checked against the manifest.

        Raises IndexMismatch when it was made for another model or catalogue, or was changed since.
        """
        manifest = Manifest.read(folder, version)
        _require(manifest, folder, expected, newest=version is None)
        verify(folder, manifest.files)
        return cls.assembled(manifest, {name: read(folder / name) for name in manifest.files})

    @classmethod
    def assembled(cls, manifest: Manifest, files: dict[str, dict[str, Tensor]]) -> "Index":
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
        return kept_segments(model, self.shard, [song.caption for song in self.manifest.stored], chosen)

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
            sums = self._stored_sums(self.scan(self.solved(self.background_rows.floats())))
        return Background(signed_power(self._of_songs(sums), self.config.song_power))

    @cached_property
    def forgotten(self) -> Background:
        """What finite-step unlearning of unrelated tracks did to every song [b, songs]."""
        return Background(self._of_songs(self.forgotten_sums))

    def segments_of(self, song: int) -> slice:
        """Return where the segments of the song numbered `song` lie, those of its duplicates left out."""
        return slice(*self._bounds[self.manifest.numbers[song] :][:2])

    @cached_property
    def _bounds(self) -> list[int]:
        return [0, *accumulate(song.segments for song in self.manifest.stored)]

    def factors(self, rows: Tensor) -> Tensor:
        """Return by what the row scaling multiplies each measure's part of rows [..., m, k]: [..., m]."""
        raw, scaled = rows.norm(dim=-1), scale_rows(rows, self.config.row_scale).norm(dim=-1)
        return torch.where(raw > 0, scaled / raw, 1.0)

    def solved(self, queries: Tensor) -> Tensor:
        """Return C⁻¹ K(q) [..., m k] for projected query gradients [..., m, k]."""
        return self.curvature.solve(self.joint(queries.cpu()))

    def scan(self, solved: Tensor, segments: slice = slice(None)) -> Tensor:
        """Return the first-order scores [q, segments] of `solved` queries [q, m k]."""
        runs = pieces(*segments.indices(len(self))[:2])
        return torch.cat([first_order(self.rows(run), solved) for run in runs], -1)

    def by_song(self, scores: Tensor) -> Tensor:
        """Return song scores [..., songs]: the segments' scores of a song and its duplicates, weighted by their draws.

        What was removed counts nowhere, and no other song's sum depends on it.
        """
        return self._of_songs(self._stored_sums(scores))

    def _stored_sums(self, scores: Tensor) -> Tensor:
        return by_song(scores, self.shard.song, self.shard.weight, len(self.manifest.stored))

    def _of_songs(self, sums: Tensor) -> Tensor:
        """Return sums [..., stored] song by song [..., songs]."""
        places, ones, count = torch.tensor(self.manifest.places), torch.ones(sums.shape[-1]), len(self.manifest.songs)
        return by_song(sums, places, ones, count + 1)[..., :count]

    def song_scores(self, scores: Tensor) -> Tensor:
        """Return the index's song scores [..., songs]: the signed power of each song's sum over its segments."""
        return signed_power(self.by_song(scores), self.config.song_power)


def _require(manifest: Manifest, folder: Path, expected: Expected, *, newest: bool) -> None:
    """Refuse an index of another model, or of songs that the catalogue does not name; the newest is of all of them."""
    if manifest.model_digest != expected.model_digest:
        raise IndexMismatch(f"the index in {folder} was made for model {manifest.model_digest[:12]}, not this one")
    named, stored = set(expected.keys), {song.key for song in manifest.stored}
    if stored - named or (newest and stored != named):
        raise IndexMismatch(f"the index in {folder} was made for other songs than the catalogue names")


def pieces(first: int, last: int) -> Iterator[slice]:
    """Yield runs of rows from `first` to before `last`, small enough to be held in full precision."""
    return (slice(at, min(at + _ROWS_AT_ONCE, last)) for at in range(first, last, _ROWS_AT_ONCE))


def fit_curvature(rows: Iterable[Tensor], damping: float, device: torch.device | str = "cpu") -> ProjectedCurvature:
    """Fit the curvature on `rows`, given in runs [n, k], computing on `device`; the result is on the CPU."""
    total, count = torch.zeros(()), 0
    for run in rows:
        exact = run.to(device).double()
        total, count = total.to(exact) + exact.mT @ exact, count + len(exact)
    fitted = ProjectedCurvature.of_moment(total / count, damping)
    return ProjectedCurvature(fitted.factor.cpu())


def kept_segments(model: Pipeline, shard: Shard, captions: Sequence[str | None], chosen: Tensor) -> Segments:
    """Return the segments `chosen` [m] of `shard`, captions by position of the song."""
    told = [captions[song] for song in shard.song[chosen].tolist()]
    cond = model.condition(told, shard.starts[chosen], shard.totals[chosen])
    return Segments(shard.latents.floats(chosen), shard.mask[chosen].float(), cond)


def unpacked_fisher(packed: dict[str, Tensor], config: IndexConfig, device: torch.device) -> DiagonalFisher:
    """Return the diagonal Fisher that a file of the index keeps, damped, on `device`."""
    diagonal = {name: value.to(device) for name, value in expand_positive(packed).items()}
    return DiagonalFisher.of(diagonal, config.fisher_damping)


def row_requests(config: IndexConfig, batch: int) -> tuple[Request, ...]:
    """Return how each measure's part of a row is made: the same draws, weights and projection for songs and queries."""
    grid, projection = Grid(config.grid_seed, config.draws), SJLT(config.projection_seed, config.dim, config.nonzeros)
    return tuple(Request(Probe(measure, grid, batch), config.weights, projection) for measure in config.measures)


def gradient_rows(
    model: Model, segments: Segments, requests: Sequence[Request], groups: int = 1, progress: Progress = silent
) -> Tensor:
    """Return the rows of `segments` from `groups` disjoint sets of the draws, on the CPU: [groups, s, m, k]."""
    parts = []
    for number, request in enumerate(requests):
        parts.append(grouped(model, segments, request, groups, share(progress, number, len(requests))).cpu())
    return torch.stack(parts, 2)


def unlearn_probe(config: IndexConfig, batch: int) -> Probe:
    """Return what finite-step unlearning measures, before and after."""
    return Probe(config.unlearn_measure, Grid(config.grid_seed, config.unlearn_draws), batch)
