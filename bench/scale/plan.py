"""How large everything is that is measured, and where answers go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import hardware
from worker.manifest import IndexConfig

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """A Stable Audio pipeline to be drawn at random: sizes of its denoiser, autoencoder and text encoder."""

    frames: int = 1024
    channels: int = 64
    layers: int = 24
    head: int = 64
    heads: int = 24
    shared_heads: int = 12
    text: int = 768
    text_layers: int = 12
    encoder: int = 128
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    multiples: tuple[int, ...] = (1, 2, 4, 8, 16)
    audio_channels: int = 2
    rate: int = 44100


OPEN = Shape()
"""Stable Audio Open's: a denoiser of 1.06 billion weights, windows of 47.6 s."""
TINY = Shape(32, 16, 2, 32, 2, 1, 32, 1, 32, (4, 8, 8), (1, 2, 2), 1, 8000)


@dataclass(frozen=True)
class Plan:
    """Sizes of one run.

    starter: folder of a pipeline, None for one of `small`; large: drawn at random; songs, per_song: of the catalogue;
    fitted: songs that its curvature is fitted on; queries, checked, long_queries: how many are timed; track_s,
    long_s: seconds of a track; together: queries of one scan; config: what rows are; batches, long_batches: tried for
    the floor; catalogues: sizes scanned; lengths, long_lengths: seconds of tracks in windows; built, long_built:
    segments an index build is timed on; slice_: segments that finite steps are timed on.
    """

    out: Path
    device: str = "cuda"
    starter: Path | None = hardware.ROOT / "starter"
    small: Shape = TINY
    large: Shape = OPEN
    songs: int = 115_000
    per_song: int = 12
    fitted: int = 500
    queries: int = 50
    checked: int = 20
    long_queries: int = 6
    track_s: float = 10.0
    long_s: float = 120.0
    together: int = 16
    config: IndexConfig = field(default_factory=lambda: IndexConfig(dim=2048))
    batch: int = 512
    long_batch: int = 16
    batches: tuple[int, ...] = (16, 64, 256, 512, 1024, 2048)
    long_batches: tuple[int, ...] = (16, 32)
    catalogues: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    lengths: tuple[int, ...] = (1, 3, 6, 12, 30, 60)
    long_lengths: tuple[int, ...] = (1, 2)
    built: int = 128
    long_built: int = 6
    slice_: int = 32
    repeats: int = 5
    seed: int = 20261122

    @property
    def segments(self) -> int:
        """Kept segments of the catalogue."""
        return self.songs * self.per_song

    @property
    def row_bytes(self) -> int:
        """Bytes that are scanned of a row."""
        return len(self.config.measures) * self.config.dim


def tiny(out: Path, device: str = "cpu") -> Plan:
    """Return a plan that runs everything in seconds on a processor."""
    config = IndexConfig(dim=64, nonzeros=2, draws=16, fit_draws=16, check_draws=2, unlearn_draws=2)
    return Plan(
        out=out,
        device=device,
        starter=None,
        large=TINY,
        songs=40,
        per_song=3,
        fitted=20,
        queries=3,
        checked=2,
        long_queries=2,
        track_s=1.0,
        long_s=2.5,
        together=4,
        config=config,
        batch=16,
        long_batch=8,
        batches=(2, 4),
        long_batches=(2, 4),
        catalogues=(100, 1000),
        lengths=(1, 2),
        long_lengths=(1, 2),
        built=4,
        long_built=3,
        slice_=3,
        repeats=2,
    )
