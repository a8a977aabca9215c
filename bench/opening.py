"""How long an index takes to open, and what it costs in memory: a synthetic index of real size, without a model.

    python -m bench.opening --segments 1400000

Rows, curvature and background are random numbers of the sizes that `--dim` and two measures give; latents are left
tiny, because opening maps and digests them but reads none. Each opening is a process of its own. The page cache is warm
(the files were written just before), so reading from a disk is not in the times; the file says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from bench import hardware
from worker.attribution.influence import by_song
from worker.index import BACKGROUND, CURVATURE, FISHER, Expected, Index
from worker.manifest import IndexConfig, IndexedSong, Manifest
from worker.plan import FORGOTTEN, ROWS, UNRELATED, file_name
from worker.shards import Bytes, Shard, file_digest, write
from worker.verifying import STAMPS

if TYPE_CHECKING:
    from collections.abc import Sequence

SEGMENTS_A_SONG = 12
SONGS_A_SHARD = 2000
BACKGROUND_TRACKS = 32
FULL = 1_400_000
MODEL = "0" * 64


def made(folder: Path, segments: int, dim: int) -> Manifest:
    """Write a synthetic index of `segments` segments into `folder`."""
    config = IndexConfig(dim=dim, songs_per_shard=SONGS_A_SHARD)
    songs = tuple(
        IndexedSong(f"song-{at:07d}", "a caption", SEGMENTS_A_SONG) for at in range(segments // SEGMENTS_A_SONG)
    )
    size, measures = len(config.measures) * dim, len(config.measures)
    shards = [(at, min(at + SONGS_A_SHARD, len(songs))) for at in range(0, len(songs), SONGS_A_SHARD)]
    for first, last in shards:
        write(folder / file_name(ROWS, (first, last)), _shard(first, last, measures, dim).tensors(), "synthetic")
    rows = Bytes(
        torch.randint(-127, 128, (BACKGROUND_TRACKS, measures, dim), dtype=torch.int8), torch.ones(32, measures, 1)
    )
    factor = torch.randn(size * (size + 1) // 2, dtype=torch.float64) / size
    whole = (0, len(songs))
    sums = by_song(
        torch.randn(BACKGROUND_TRACKS, len(songs)), torch.arange(len(songs)), torch.ones(len(songs)), len(songs)
    )
    write(folder / BACKGROUND, rows.tensors("row"), "synthetic")
    write(folder / FISHER, {"w/code": torch.zeros(1, dtype=torch.uint8), "w/top": torch.ones(1)}, "synthetic")
    write(folder / CURVATURE, {"size": torch.tensor(size), "triangle": factor}, "synthetic")
    write(folder / file_name(UNRELATED, whole), {"scores": sums}, "synthetic")
    write(folder / file_name(FORGOTTEN, whole), {"scores": sums[:16].float()}, "synthetic")
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    files = {name: file_digest(folder / name) for name in names}
    listed = tuple(file_name(ROWS, shard) for shard in shards)
    manifest = Manifest(MODEL, 10.0, 44_100, config, songs, listed, len(songs), files)
    manifest.save(folder)
    return manifest


def _shard(first: int, last: int, measures: int, dim: int) -> Shard:
    count = (last - first) * SEGMENTS_A_SONG
    rows = Bytes(torch.randint(-127, 128, (count, measures, dim), dtype=torch.int8), torch.ones(count, measures, 1))
    song = torch.arange(first, last).repeat_interleave(SEGMENTS_A_SONG)
    latents = Bytes(torch.zeros(count, 4, 8, dtype=torch.int8), torch.ones(count, 4, 1))
    return Shard(rows, latents, torch.ones(count, 8, dtype=torch.uint8), song, *(torch.ones(count) for _ in range(3)))


def opened(folder: Path) -> dict[str, float]:
    """Open the index in this process and return seconds and mebibytes."""
    keys = [song.key for song in Manifest.read(folder).stored]
    before, began = _anonymous(), time.perf_counter()
    index = Index.open(folder, Expected(MODEL, keys))
    ready = index.background, index.curvature
    seconds = time.perf_counter() - began
    assert len(ready[0].scores) == BACKGROUND_TRACKS
    return {"seconds": seconds, "anonymous_mib": _anonymous() - before, "segments": len(index)}


def _anonymous() -> float:
    """Return this process's memory that no file backs, in mebibytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a synthetic index, open it twice in fresh processes, and save what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=FULL)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--folder", type=Path, help="open the index here instead, and print what that took")
    parser.add_argument("--out", type=Path, default=hardware.RESULTS / "opening.json")
    given = parser.parse_args(arguments)
    if given.folder:
        print(json.dumps(opened(given.folder)))
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        manifest = made(folder, given.segments, given.dim)
        gigabytes = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e9
        (folder / STAMPS).unlink(missing_ok=True)
        first, again = _in_a_process(folder), _in_a_process(folder)
    print(hardware.save(given.out, _result(given, manifest, gigabytes, (first, again))))


def _in_a_process(folder: Path) -> dict[str, float]:
    command = (sys.executable, "-m", "bench.opening", "--folder", str(folder))
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))


def _result(
    given: argparse.Namespace, manifest: Manifest, gigabytes: float, seen: tuple[dict[str, float], dict[str, float]]
) -> dict[str, Any]:
    first, again = seen
    fold = FULL / first["segments"]
    return {
        "command": f"python -m bench.opening --segments {given.segments} --dim {given.dim}",
        "seed": 0,
        "measured": {
            "segments": first["segments"],
            "numbers_a_row": 2 * given.dim,
            "songs": len(manifest.songs),
            "files": len(manifest.files),
            "index_gb": round(gigabytes, 3),
            "first_opening_s": round(first["seconds"], 2),
            "opening_s": round(again["seconds"], 2),
            "anonymous_mib": round(again["anonymous_mib"], 1),
            "page_cache": "warm",
        },
        "extrapolated": {} if fold < 1.001 else _extrapolated(first, again, fold),
    }


def _extrapolated(first: dict[str, float], again: dict[str, float], fold: float) -> dict[str, Any]:
    return {
        "how": "times and memory in proportion to the segments, which overstates what does not grow (curvature)",
        "segments": FULL,
        "first_opening_s": round(fold * first["seconds"], 1),
        "opening_s": round(fold * again["seconds"], 1),
        "anonymous_mib": round(fold * again["anonymous_mib"]),
    }


if __name__ == "__main__":
    main()
