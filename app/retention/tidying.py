"""The sweeper's care for what is kept: uploads past their days, objects that no row names, workers long gone."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import delete, select

from app.access.audit import SWEEPER, Deed
from app.acting import SYSTEM, Acting
from app.db import now, reading, transaction
from app.errors import DatabaseUnavailable, StorageUnavailable
from app.models import Tenant, Worker
from app.retention import erasing
from app.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.config import Settings
    from app.db import Database

WORKERS_KEPT = timedelta(days=7)
_log = structlog.get_logger(__name__)


class Tidying:
    """Does a little at each step, so that the sweeper's other work never waits long; begins anew every so often."""

    def __init__(self, db: Database, settings: Settings, ticks: Callable[[], float] = time.monotonic) -> None:
        self._db, self._settings, self._ticks = db.on_behalf_of(SYSTEM), settings, ticks
        self._pages: Iterator[list[str]] = iter(())
        self._next_round = 0.0

    def step(self) -> int:
        """Erase what is due; returns how much was. What cannot be reached now is tried again at a later step."""
        try:
            storage = Storage.open(self._settings.storage_url)
            return self._uploads(storage) + self._objects(storage)
        except (StorageUnavailable, DatabaseUnavailable) as error:
            self._pages = iter(())
            _log.warning("not tidied", error=repr(error))
            return 0

    def _uploads(self, storage: Storage) -> int:
        with transaction(self._db) as session:
            session.execute(delete(Worker).where(Worker.seen_at < now(session) - WORKERS_KEPT))
            return erasing.erase_due(session, self._db, storage)

    def _objects(self, storage: Storage) -> int:
        """Look at one page of the objects that there are, and erase those that no row names and that are old."""
        grace = timedelta(seconds=self._settings.orphan_seconds)
        keys = next(self._pages, None)
        if keys is None:
            if self._ticks() >= self._next_round:
                self._next_round = self._ticks() + self._settings.collect_seconds
                self._pages = storage.pages()
            return 0
        with reading(self._db) as session:
            tenants = set(session.scalars(select(Tenant.id)))
            orphans = set(keys) - erasing.named(session, keys)
        mine = [key for key in sorted(orphans) if key.partition("/")[0] in tenants]
        return sum(self._orphan(storage, key, grace) for key in mine)

    def _orphan(self, storage: Storage, key: str, grace: timedelta) -> bool:
        if not erasing.erase_unnamed(self._db, storage, key, before=grace):
            return False
        tenant_id, _, sha256 = key.partition("/")
        said = Deed(tenant_id, SWEEPER, "erase orphan", kind="objects", ident=sha256)
        with transaction(self._db.on_behalf_of(Acting(role=None, witness=said))):
            return True
