"""How a track comes in: spooled, looked at, and only then kept and queued; a refused one leaves nothing behind."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.attributions import pressure, service
from app.attributions.service import KeptAudio as KeptAudio
from app.audio import AudioFacts, Limits, inspect
from app.db import Database, reading, transaction
from app.retention.holding import claim
from app.storage import Storage, key_of, spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.config import Settings
    from app.models import Attribution


@dataclass(frozen=True)
class Received:
    """A track on this machine's disk whose header has been accepted."""

    path: Path
    sha256: str
    bytes: int
    facts: AudioFacts


@dataclass(frozen=True)
class Intake:
    """What taking in a track needs."""

    db: Database
    storage: Storage
    settings: Settings


def printable(filename: str | None) -> str | None:
    """Return what of a file's name can be shown, None where nothing can."""
    return "".join(filter(str.isprintable, filename or ""))[:300] or None


@contextmanager
def receive(chunks: Iterable[bytes], settings: Settings) -> Iterator[Received]:
    """Take in a file and accept or refuse it by its header; it is gone when the block ends.

    Raises Empty, TooLarge, and what `app.audio.inspect` raises.
    """
    with tempfile.TemporaryDirectory(prefix="rootnote-") as folder:
        spooled = spool(chunks, Path(folder) / "upload", settings.max_upload_bytes)
        facts = inspect(spooled.path, Limits.of(settings))
        yield Received(spooled.path, spooled.sha256, spooled.bytes, facts)


def keep(storage: Storage, tenant_id: str, received: Received) -> KeptAudio:
    """Put what was received into the storage; raises StorageUnavailable."""
    key = key_of(tenant_id, received.sha256)
    storage.put(received.path, key)
    return KeptAudio(key, received.sha256, received.bytes, received.facts)


def submit(intake: Intake, chunks: Iterable[bytes], *, tenant_id: str, request: service.NewAttribution) -> Attribution:
    """A queued attribution of an uploaded track.

    Raises UnknownModel, UnknownMethod, what `receive` raises, and Unavailable; then nothing is queued.
    """
    service.resolve_method(request.method)
    with reading(intake.db) as session:
        name = request.model or intake.settings.model_name
        service.resolve_model(session, tenant_id=tenant_id, name=name)
    pressure.check(intake.db, tenant_id=tenant_id, settings=intake.settings)
    with receive(chunks, intake.settings) as received:
        audio = keep(intake.storage, tenant_id, received)
    with transaction(intake.db) as session:
        claim(session, intake.storage, [audio.key])
        return service.create(session, tenant_id=tenant_id, request=request, audio=audio, settings=intake.settings)
