"""An index of random rows: as large as a real one and as fast to scan, and of no meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from worker.index import Index
from worker.manifest import IndexedSong, Manifest
from worker.shards import Bytes, Shard

if TYPE_CHECKING:
    from bench.scale.plan import Plan
    from worker.diffusion.stable_audio import StableAudio

_BACKGROUND = 64


def random_codes(count: int, plan: Plan, device: torch.device) -> torch.Tensor:
    """Return `count` rows of uniform bytes, [n, m, k] int8 on `device`, laid out measure by measure."""
    make = torch.Generator(device).manual_seed(plan.seed)
    size = (len(plan.config.measures), count, plan.config.dim)
    codes = torch.empty(size, dtype=torch.int8, device=device)
    for part in codes:
        for piece in part.split(1 << 18):
            piece.random_(-127, 128, generator=make)
    return codes.transpose(0, 1)


def random_index(plan: Plan, model: StableAudio, device: torch.device) -> Index:
    """Return the plan's catalogue for `model`: random rows, all segments with the same latents, a curvature of some."""
    codes = random_codes(plan.segments, plan, device)
    songs = torch.arange(plan.songs)
    make = torch.Generator().manual_seed(plan.seed)
    background = torch.randn(_BACKGROUND, len(plan.config.measures), plan.config.dim, generator=make)
    return Index(
        manifest=_manifest(plan, model),
        shard=_shard(plan, model, codes.cpu().contiguous(), songs.repeat_interleave(plan.per_song)),
        background_rows=Bytes.of(background),
        forgotten_sums=torch.zeros(1, plan.songs),
        packed_fisher={},
        device=device,
    )


def for_model(index: Index, plan: Plan, model: StableAudio) -> Index:
    """Return the same rows as the index of another model; what was computed from them is kept."""
    fresh = Index(
        manifest=_manifest(plan, model),
        shard=_shard(plan, model, index.shard.rows.codes, index.shard.song),
        background_rows=index.background_rows,
        forgotten_sums=index.forgotten_sums,
        packed_fisher={},
        device=index.device,
    )
    for name in ("scanner", "curvature", "background"):
        fresh.__dict__[name] = getattr(index, name)
    return fresh


def _manifest(plan: Plan, model: StableAudio) -> Manifest:
    return Manifest(
        model_digest="random",
        segment_seconds=model.form.seconds,
        sampling_rate=model.form.rate,
        config=plan.config,
        stored=tuple(IndexedSong(f"song-{number:07}", None, plan.per_song) for number in range(plan.songs)),
        shards=(),
        fitted_songs=plan.fitted,
        files={},
    )


def _shard(plan: Plan, model: StableAudio, codes: torch.Tensor, song: torch.Tensor) -> Shard:
    count, form = len(codes), model.form
    channels = model.pipeline.transformer.config.in_channels
    one = Bytes.of(torch.randn(1, channels, form.frames, generator=torch.Generator().manual_seed(plan.seed)))
    scale = torch.full((1, 1, 1), 1e-3).expand(count, len(plan.config.measures), 1)
    number = torch.arange(count) % plan.per_song
    return Shard(
        rows=Bytes(codes, scale),
        latents=Bytes(one.codes.expand(count, -1, -1), one.scale.expand(count, -1, -1)),
        mask=torch.ones(1, form.frames, dtype=torch.uint8).expand(count, -1),
        song=song,
        weight=torch.ones(1).expand(count),
        starts=number * form.seconds,
        totals=torch.full((1,), plan.per_song * form.seconds).expand(count),
    )
