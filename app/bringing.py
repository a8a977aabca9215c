"""A folder of recordings brought into a catalogue: by its tags first, as CSV is, then the recordings themselves."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app import tagged
from app.catalogue.schemas import ImportReport, RowError
from app.client import Client
from app.errors import AudioError
from app.tagged import Folder, Recording


@dataclass(frozen=True)
class Brought:
    """What an import did, its lines being files; and why files were left out or not stored, by name."""

    report: ImportReport
    failed: dict[str, str]
    sent: int


def folder(client: Client, source: Path, *, dry_run: bool = False, audio: bool = False) -> Brought:
    """Bring in every recording of a folder. What is there and unchanged is not sent again.

    Raises OSError, and what the client raises but for a recording that is refused.
    """
    found = tagged.read(source)
    report = client.import_songs(found.sheet(), dry_run=dry_run)
    failed = dict(found.unreadable)
    sent = 0
    if audio and not dry_run:
        wrong = {error.line for error in report.errors}
        sound = [each for line, each in enumerate(found.recordings, 2) if line not in wrong]
        sent = sum(_sent(client, recording, failed) for recording in sound)
    return Brought(_named(report, found), failed, sent)


def _sent(client: Client, recording: Recording, failed: dict[str, str]) -> bool:
    """Store a recording unless it is stored already; whether it was."""
    (song,) = client.songs(key=recording.cells["key"])
    if song.audio_sha256 == recording.sha256:
        return False
    try:
        client.put_audio(song.id, recording.path)
    except AudioError as error:
        failed[recording.name] = error.detail
        return False
    return True


def _named(report: ImportReport, found: Folder) -> ImportReport:
    """The same report with the name of the file in each message: its lines are nobody's."""

    def named(rows: Iterable[RowError]) -> list[RowError]:
        files = [each.name for each in found.recordings]
        return [row.model_copy(update={"message": f"{files[row.line - 2]}: {row.message}"}) for row in rows]

    return report.model_copy(update={"errors": named(report.errors), "warnings": named(report.warnings)})
