"""Fetch the songs from Debian's packages, 0.9 GB, installing nothing: `python -m bench.starter.fetch build/songs`."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import zipfile
from pathlib import Path

from bench.starter.songs import Song, catalogue


def fetch(package: str, folder: Path) -> None:
    """Download and unpack one package into folder/package; game archives (.pk3, .love) go to unz/ inside it."""
    target = folder / package
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "download", package], cwd=scratch, check=True)
        archive = next(Path(scratch).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, target], check=True)
    for archive in [*target.rglob("*.pk3"), *target.rglob("*.love")]:
        with zipfile.ZipFile(archive) as inner:
            inner.extractall(target / "unz")


def missing(songs: list[Song], folder: Path) -> list[str]:
    """Packages of which a song is not there yet."""
    return sorted({song.package for song in songs if not song.file(folder).exists()})


def main() -> None:
    """Fetch what is missing; run again after an interruption."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    songs = catalogue()
    for package in missing(songs, options.folder):
        print(f"fetching {package}", flush=True)
        fetch(package, options.folder)
    left = missing(songs, options.folder)
    if left:
        raise SystemExit(f"songs missing from: {', '.join(left)}")
    print(f"{len(songs)} songs under {options.folder}")


if __name__ == "__main__":
    main()
