"""From a folder of songs to a training set: `python -m worker.encode FOLDER --audio SONGS --out training.safetensors`.

FOLDER/songs.csv says which files were trained on and under which captions: columns key, path (below SONGS), caption
(empty: trained without text), and where only a part was trained on, start_s and seconds.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
import structlog
import torch

from worker.diffusion.stable_audio import StableAudio, load
from worker.diffusion.windows import cut
from worker.engine import chosen_device, use_cores
from worker.training import TrainingSet, TrainingSong

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from worker.attribution.types import Segments

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
COLUMNS = ("key", "title", "artist", "path", "caption")
log = structlog.get_logger(__name__)


class NoSongs(Exception):
    """The catalogue file names no song to encode, or one that cannot be read."""


@dataclass(frozen=True)
class Recording:
    """A song as its line in the catalogue file says: where its audio lies, and which part was trained on."""

    song: TrainingSong
    path: Path
    seconds: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode the songs and write the training set; a missing catalogue file is drafted from the files' names."""
    given = _parser().parse_args(arguments)
    use_cores(chosen_device(given.device))
    catalogue: Path = given.folder / "songs.csv"
    try:
        if not catalogue.exists():
            draft(given.audio, catalogue)
        songs = recordings(catalogue, given.audio, _known(given.without))
        training = encoded(load(given.folder / "pipeline", chosen_device(given.device)), songs)
    except NoSongs as error:
        sys.stderr.write(f"{error}\n")
        return 1
    training.save(given.out)
    log.info("training set written", file=str(given.out), songs=len(training.songs), segments=len(training))
    return 0


def draft(audio: Path, catalogue: Path) -> None:
    """Write a catalogue file of every recording below `audio`, by its path; titles and artists are to be filled in."""
    files = sorted(path for path in audio.rglob("*") if path.suffix.lower() in SUFFIXES)
    with catalogue.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for path in files:
            name = path.relative_to(audio)
            table.writerow([name.with_suffix("").as_posix(), path.stem, "unknown", name.as_posix(), ""])
    log.info("catalogue file drafted", file=str(catalogue), songs=len(files))


def recordings(catalogue: Path, audio: Path, left_out: Collection[str] = ()) -> list[Recording]:
    """Return the songs that a catalogue file names; raises NoSongs for none and for a line without key or path."""
    found = []
    with catalogue.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not row.get("key") or not row.get("path"):
                raise NoSongs(f"{catalogue}: the song {row.get('key') or row.get('path')!r} needs a key and a path")
            if row["key"] in left_out:
                continue
            song = TrainingSong(row["key"], row.get("caption") or None, float(row.get("start_s") or 0))
            found.append(Recording(song, audio / row["path"], float(row["seconds"]) if row.get("seconds") else None))
    if not found:
        raise NoSongs(f"{catalogue} names no song to encode")
    return found


def encoded(model: StableAudio, songs: Sequence[Recording]) -> TrainingSet:
    """Return the songs' windows as the model was trained on them; raises NoSongs for a file that cannot be read."""
    parts: list[tuple[Segments, torch.Tensor, float]] = []
    for number, each in enumerate(songs):
        windows = cut(*_samples(each), model.form)
        parts.append((model.encode(windows, each.song.caption), windows.starts, windows.total))
        if (number + 1) % max(1, len(songs) // 20) == 0:
            log.info("songs encoded", number=number + 1, of=len(songs))
    return TrainingSet.of([each.song for each in songs], parts)


def _samples(recording: Recording) -> tuple[torch.Tensor, int]:
    try:
        with soundfile.SoundFile(recording.path) as file:
            file.seek(int(recording.song.begins_s * file.samplerate))
            frames = -1 if recording.seconds is None else int(recording.seconds * file.samplerate)
            samples = file.read(frames, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise NoSongs(f"{recording.path} cannot be read: {error}") from error
    if not len(samples):
        raise NoSongs(f"{recording.path} holds no sound from {recording.song.begins_s} s on")
    return torch.from_numpy(samples.T.copy()), int(file.samplerate)


def _known(earlier: Path | None) -> set[str]:
    return {song.key for song in TrainingSet.load(earlier).songs} if earlier else set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker.encode", description="Encode the songs that a model was trained on.")
    parser.add_argument("folder", type=Path, help="folder of a model: pipeline/, songs.csv")
    parser.add_argument("--audio", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--out", type=Path, required=True, help="the training set to write")
    parser.add_argument("--without", type=Path, help="an earlier training set, whose songs are left out")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return parser


if __name__ == "__main__":
    sys.exit(main())
