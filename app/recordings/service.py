"""Where the recordings of tracks and songs lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.attributions import service as attributions
from app.catalogue import service as catalogue
from app.errors import AudioMissing, NotFound

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class NoRecording(NotFound):
    """The song is known, its recording is not held here."""

    type, title = "no-recording", "No recording is held here"


@dataclass(frozen=True)
class Recording:
    """A stored recording: its key in the storage, and its digest."""

    key: str
    sha256: str


def of_track(session: Session, *, tenant_id: str, attribution_id: str) -> Recording:
    """Return the recording of an attribution's track; raises NotFound, AudioMissing where it was erased."""
    row = attributions.get(session, tenant_id=tenant_id, attribution_id=attribution_id)
    if row.audio_erased_at is not None:
        raise AudioMissing("the upload was erased")
    return _recording(row.audio_key, row.audio_sha256)


def of_song(session: Session, *, tenant_id: str, song_id: str) -> Recording:
    """Return a song's recording; raises NotFound, NoRecording where none is stored."""
    song = catalogue.get(session, tenant_id=tenant_id, song_id=song_id)
    return _recording(song.audio_key, song.audio_sha256)


def _recording(key: str | None, sha256: str | None) -> Recording:
    if not key or not sha256:
        raise NoRecording
    return Recording(key, sha256)
