"""Recordings are erased: on request, after a tenant's days, and where no row names them any more.

An object is named by its tenant and its digest, so several rows may name one: it goes with the last of them.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import String, cast, select, update

from app.access.audit import SWEEPER, Deed
from app.acting import SYSTEM
from app.attributions.states import ENDED
from app.db import after_commit, now, transaction
from app.errors import Conflict, NotFound
from app.models import Attribution, Build, BuildPiece, Counterfactual, Song, Tenant
from app.retention.holding import hold

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

    from app.db import Database
    from app.storage import Storage

BATCH = 100


class NotEnded(Conflict):
    """A job that has not ended needs its track."""

    type, title = "not-ended", "The attribution has not ended"


def erase_track(session: Session, db: Database, storage: Storage, *, tenant_id: str, attribution_id: str) -> None:
    """Erase the upload of an attribution; its result stays. Again, nothing happens. Raises NotFound, NotEnded."""
    mine = (Attribution.tenant_id == tenant_id, Attribution.id == attribution_id)
    row = session.scalars(select(Attribution).where(*mine).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("there is no such attribution")
    if row.status not in ENDED:
        raise NotEnded("it is waited for or computed; cancel it first")
    if row.audio_erased_at is None:
        row.audio_erased_at = now(session)
    after_commit(session, partial(erase_unnamed, db, storage, row.audio_key))


def erase_song(session: Session, db: Database, storage: Storage, *, tenant_id: str, song_id: str) -> None:
    """Erase a song's recording; the song stays. Again, nothing happens. Raises NotFound."""
    song = session.scalars(select(Song).where(Song.tenant_id == tenant_id, Song.id == song_id)).one_or_none()
    if song is None:
        raise NotFound(f"there is no song {song_id}")
    key = song.audio_key
    if key is not None:
        song.audio_key = song.audio_sha256 = None
        song.updated_at = now(session)
        after_commit(session, partial(erase_unnamed, db, storage, key))


def erase_due(session: Session, db: Database, storage: Storage) -> int:
    """Erase uploads, at most BATCH, whose job ended longer ago than their tenant keeps them; returns how many."""
    erased = 0
    for tenant_id, days in session.execute(select(Tenant.id, Tenant.audio_days).where(Tenant.audio_days.is_not(None))):
        over = (
            Attribution.tenant_id == tenant_id,
            Attribution.finished_at < now(session) - timedelta(days=days or 0),
            Attribution.audio_erased_at.is_(None),
        )
        due = select(Attribution.id, Attribution.audio_key).where(*over).limit(BATCH - erased)
        for ident, key in session.execute(due.with_for_update(skip_locked=True)).all():
            session.execute(update(Attribution).where(Attribution.id == ident).values(audio_erased_at=now(session)))
            Deed(tenant_id, SWEEPER, "erase upload", kind="attributions", ident=ident)(session)
            after_commit(session, partial(erase_unnamed, db, storage, key))
            erased += 1
    return erased


def erase_unnamed(db: Database, storage: Storage, key: str, *, before: timedelta | None = None) -> bool:
    """Erase an object that no row names, if it is as old as `before` says; False where it stays.

    Raises StorageUnavailable, DatabaseUnavailable.
    """
    with transaction(db.on_behalf_of(SYSTEM)) as session:
        hold(session, key)
        if named(session, [key]):
            return False
        if before is not None and not storage.is_older(key, now(session) - before):
            return False
        storage.delete(key)
        return True


def named(session: Session, keys: Collection[str]) -> set[str]:
    """Those of some objects' keys that a row names: a track's, a song's, a file's of an index, a counterfactual's."""
    tracks = select(Attribution.audio_key).where(Attribution.audio_key.in_(keys), Attribution.audio_erased_at.is_(None))
    songs = select(Song.audio_key).where(Song.audio_key.in_(keys))
    found = {key for query in (tracks, songs) for key in session.scalars(query) if key is not None}
    return found | {key for key in keys if key not in found and _told_by_digest(session, key)}


def _told_by_digest(session: Session, key: str) -> bool:
    tenant_id, _, sha256 = key.rpartition("/")
    columns = (Build.inputs, Build.asked, Counterfactual.audio, BuildPiece.sha256)
    told = (
        select(column.class_.id).where(column.class_.tenant_id == tenant_id, cast(column, String).contains(sha256))
        for column in columns
    )
    return any(session.scalar(query.limit(1)) is not None for query in told)
