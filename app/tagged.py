"""A folder of recordings as catalogue lines, from the tags in the files; nothing is guessed that no tag says."""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mutagen
from mutagen.id3 import ID3
from mutagen.mp4 import MP4Tags

ENDINGS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".m4a"})
COLUMNS = ("key", "title", "artist", "isrc", "iswc", "upc", "duration_s")
LONGEST_KEY = 200
_CHUNK = 1024 * 1024
# The names of one fact in ID3 (MP3, WAV, AIFF), in Vorbis comments (FLAC, Ogg, Opus), in MP4.
_TAGS = {
    "title": (("TIT2",), ("title",), ("©nam",)),
    "artist": (("TPE1",), ("artist",), ("©ART",)),
    "isrc": (("TSRC",), ("isrc",), ("----:com.apple.iTunes:ISRC",)),
    "iswc": (("TXXX:ISWC",), ("iswc",), ("----:com.apple.iTunes:ISWC",)),
    "upc": (("TXXX:BARCODE", "TXXX:UPC"), ("barcode", "upc"), ("----:com.apple.iTunes:BARCODE",)),
}


@dataclass(frozen=True)
class Recording:
    """A file, where in its folder it lies, its SHA-256, and the cells that its tags fill."""

    path: Path
    name: str
    sha256: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Folder:
    """What was found in a folder: recordings in the order of their names, and why files were left out, by name."""

    recordings: tuple[Recording, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def sheet(self) -> bytes:
        """Return the recordings as CSV, one a line, from line 2 on."""
        written = io.StringIO(newline="")
        writer = csv.DictWriter(written, COLUMNS)
        writer.writeheader()
        writer.writerows(recording.cells for recording in self.recordings)
        return written.getvalue().encode()


def read(folder: Path) -> Folder:
    """Read the tags of every recording in a folder and those below it. Raises OSError."""
    recordings, unreadable = [], {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        try:
            recordings.append(_recording(path, name))
        except mutagen.MutagenError as error:
            unreadable[name] = f"its tags cannot be read: {error}"
    return Folder(tuple(recordings), unreadable)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS and path.is_file())


def _recording(path: Path, name: str) -> Recording:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    found = mutagen.File(path)
    if found is None:
        raise mutagen.MutagenError("it is not audio in a known format")
    cells = {fact: text for fact in _TAGS if (text := _text(found.tags, fact))}
    seconds = getattr(found.info, "length", 0.0)
    if seconds > 0:
        cells["duration_s"] = f"{seconds:.3f}"
    # Where the file lies stays when its tags are corrected; a long place is told by its digest.
    key = name if len(name) <= LONGEST_KEY else hashlib.sha256(name.encode()).hexdigest()
    return Recording(path, name, sha256, {"key": key, **cells})


def _text(tags: Any, fact: str) -> str:
    """Return the first value of a fact's tags, cleaned of what tags may hold and text may not."""
    id3, comments, mp4 = _TAGS[fact]
    names = id3 if isinstance(tags, ID3) else mp4 if isinstance(tags, MP4Tags) else comments
    values = (tags.get(name) for name in names) if tags is not None else ()
    return next(filter(None, map(_first, values)), "")


def _first(value: Any) -> str:
    """The first text of a tag: an ID3 frame, a list of texts, or of bytes."""
    texts = getattr(value, "text", value) or [""]
    text = texts[0].decode("utf-8", "replace") if isinstance(texts[0], bytes) else str(texts[0])
    return " ".join(text.replace("\x00", " ").split())
