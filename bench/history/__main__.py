"""How fast a song's history is read when the database is large.

    python -m bench.history

Fills a Postgres of its own (minutes, once; a run cut off goes on), runs the real API over it, asks for random pages of
the history of the song with the most influences at a constant rate, several times, and writes the result file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from app import migrate
from app.config import Settings
from app.cursor import encode
from bench import hardware
from bench.history import client, fill, plans, server, service
from bench.history.sizes import Sizes, moment, song_id, track_id

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 200.0
WARM_UP = 5.0
SHARE_OF_ONE = 1_000


def paths(sizes: Sizes, count: int, turn: int) -> list[str]:
    """Return so many pages of the hot song's history, each beginning at a random one of its influences."""
    draw, song = np.random.default_rng((sizes.seed, 3, turn)), song_id(0)
    tracks = (draw.integers(0, sizes.hot, count) * sizes.every).tolist()
    cursors = (encode(f"history:{song}", moment(track), track_id(track)) for track in tracks)
    return [f"/v1/songs/{song}/influences?cursor={cursor}" for cursor in cursors]


def measure(url: str, options: argparse.Namespace, sizes: Sizes) -> dict[str, Any]:
    """Run the load several times over a warm database; the best run is that of the least 99th percentile."""
    count = int(options.seconds * RATE)
    with service.api(url, options.folder / "api", options.processes) as api:
        client.run(client.Load(api.url, paths(sizes, int(WARM_UP * RATE), 0), RATE))
        runs = [_run(api, paths(sizes, count, turn), turn) for turn in range(1, options.runs + 1)]
        others = {name: _one_by_one(api.url, path) for name, path in _others(sizes).items()}
    with service.empty(options.folder / "api", runs[0]["response_bytes"]) as nothing:
        floor = asdict(client.run(client.Load(nothing.url, paths(sizes, count // 3, 9), RATE)))
    best = min(runs, key=lambda run: float(run["p99_ms"]))
    return {
        "history_p99_ms": best["p99_ms"],
        "best": best,
        "runs": runs,
        "client": client.NAME,
        "client_against_empty_server": floor,
        "one_at_a_time": others,
    }


def _run(api: service.Process, asked: list[str], turn: int) -> dict[str, Any]:
    before, load = api.cpu(), os.getloadavg()[0]
    answers = client.run(client.Load(api.url, asked, RATE))
    used = (api.cpu() - before) / answers.requests * 1000
    print(f"run {turn}: p50 {answers.p50_ms} ms, p95 {answers.p95_ms} ms, p99 {answers.p99_ms} ms (load {load:.2f})")
    return asdict(answers) | {"api_cpu_ms": round(used, 3), "load_average_before": round(load, 2)}


def _others(sizes: Sizes) -> dict[str, str]:
    common, rare = fill.vocabulary(sizes)[0], fill.vocabulary(sizes)[-1]
    return {
        "history_first_page": f"/v1/songs/{song_id(0)}/influences",
        "history_by_day": f"/v1/songs/{song_id(0)}/influence-history?bucket=day",
        "songs": "/v1/songs",
        "songs_by_frequent_word": f"/v1/songs?q={common}",
        "songs_by_rare_word": f"/v1/songs?q={rare}",
        "songs_by_two_words": f"/v1/songs?q={common}+{rare}",
        "songs_by_no_such_word": "/v1/songs?q=nosuchword",
        "songs_by_artist": f"/v1/songs?artist={common}+{rare}",
        "attributions": "/v1/attributions",
        "attributions_failed": "/v1/attributions?status=failed",
        "influences_of_a_track": f"/v1/attributions/{track_id(sizes.tracks // 2)}/influences",
    }


def _one_by_one(url: str, path: str) -> dict[str, Any]:
    """Ask for one thing a few times, slowly enough that requests do not meet."""
    answers = client.run(client.Load(url, [path] * 60, 20.0))
    print(f"{path[:70]}: p50 {answers.p50_ms} ms, p95 {answers.p95_ms} ms")
    return {"path": path, "p50_ms": answers.p50_ms, "p95_ms": answers.p95_ms, "failed": answers.failed}


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__.partition("\n")[0])
    home = Path(tempfile.gettempdir()) / "rootnote-history"
    parser.add_argument("--folder", type=Path, default=home, help="the database's folder (%(default)s)")
    parser.add_argument("--songs", type=int, default=1_000_000, help="songs, and as many tracks (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="processes of the API (%(default)s)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a run (%(default)s)")
    parser.add_argument("--plans", type=Path, help="write the plans to this page too")
    parser.add_argument("--remove", action="store_true", help="remove the database afterwards")
    parser.add_argument("--out", type=Path, default=hardware.RESULTS / "history.json", help="result file (%(default)s)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Fill, measure, write the result file."""
    options = arguments(words)
    sizes = Sizes(options.songs, options.songs, hot=options.songs // 10, seed=options.seed)
    with server.postgres(options.folder / "data") as url:
        migrate.upgrade(Settings(database_url=url, data_dir=options.folder / "api"))
        with psycopg.connect(url) as connection:
            filled = fill.fill(connection, sizes, print)
            held = plans.sizes(connection)
            print(f"{fill.warm(connection)} influences of the song are in the cache")
        result = measure(url, options, sizes)
        if options.plans:
            plans.write(Settings(database_url=url), sizes, options.plans)
    setting = {"rows": asdict(sizes) | {"influences": sizes.influences}, "fill_s": round(filled), "bytes": held}
    serving = {"api_processes": options.processes, "uvicorn": service.loop_and_parser(), "postgres": server.SETTINGS}
    print(f"written to {hardware.save(options.out, result | setting | serving | {'rate': RATE})}")
    if options.remove:
        shutil.rmtree(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
