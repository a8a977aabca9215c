"""The one task of a build: make the piece of an id. Here alone every exception is caught."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog
from celery import shared_task

from app.attributions.outcome import ErrorInfo
from app.builds import lease
from app.builds.service import CUT, MERGE, TASK
from app.config import Settings, settings
from app.db import Database, engines, reading, transaction
from app.errors import InvalidModel, ServiceError
from app.models import new_id
from app.storage import Storage
from worker.renewal import LeaseLost, Leaving, Renewal
from worker.resident import stopping

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from worker.workshop import Workshop

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Builder:
    """What a builder's child keeps between pieces."""

    db: Database
    storage: Storage
    settings: Settings
    worker_id: str


@lru_cache(maxsize=1)
def builder() -> Builder:
    """Return the process's connections."""
    known = settings()
    return Builder(engines(known), Storage.open(known.storage_url), known, new_id())


@shared_task(name=TASK)
def build_shard(piece_id: str) -> None:
    """Make a piece, if it still waits, its stage has come and no other builder has it."""
    if not stopping.is_set():
        carry_out(builder(), piece_id, stopping)


def carry_out(held: Builder, piece_id: str, leaving: threading.Event) -> None:
    """Claim a piece, make it, write its end; `leaving`, once set, gives it back."""
    with transaction(held.db) as session:
        claim = lease.claim(session, piece_id=piece_id, worker_id=held.worker_id, settings=held.settings)
    if claim is None:
        _log.info("nothing to do", id=piece_id)
        return
    with Renewal(held.db, claim, held.settings, leaving, lease.beat) as renewal:
        _Job(held, claim, renewal).run()


class _Job:
    """One attempt at a piece: from its claim to the one transaction that ends it."""

    def __init__(self, held: Builder, claim: lease.Claim, renewal: Renewal) -> None:
        self._held, self._claim, self._renewal = held, claim, renewal
        self._log = _log.bind(build=claim.build_id, piece=claim.name, attempt=claim.attempt)

    def run(self) -> None:
        """Do the piece and write its end, whatever it is."""
        self._log.info("begun")
        try:
            self._do()
        except Leaving:
            self._write("given back", lambda session: lease.release(session, claim=self._claim))
        except LeaseLost:
            self._log.warning("lease lost; the piece is made elsewhere")
        except Exception as error:  # noqa: BLE001  the task boundary: whatever it was, the row must say so
            self._fail(error)

    def _do(self) -> None:
        from worker.workshop import Workshop  # torch stays out of Celery's parent

        claim, known = self._claim, self._held.settings
        folder = known.data_dir / "builds" / claim.build_id
        folder.mkdir(parents=True, exist_ok=True)
        shop = Workshop(self._held.storage, claim, folder, known.device)
        if claim.name == CUT:
            cut = shop.cut()
            self._write("cut", lambda session: lease.planned(session, claim=claim, cut=cut, settings=known))
        elif claim.name == MERGE:
            self._merge(shop, folder)
        else:
            checksum = shop.make(self._made(), self._renewal.progress)
            self._write("made", lambda s: lease.complete(s, claim=claim, sha256=checksum, settings=known))

    def _merge(self, shop: Workshop, folder: Path) -> None:
        from worker.merging import BadPiece

        claim, known = self._claim, self._held.settings
        try:
            digest = shop.merge(self._made()).index_digest
        except BadPiece as bad:
            name = bad.name
            self._log.warning("piece refused; it is made again", refused=name, why=str(bad))
            self._write("waits", lambda session: lease.redo(session, claim=claim, name=name, settings=known))
            return

        self._write("merged", lambda session: lease.finish(session, claim=claim, index_digest=digest))
        shutil.rmtree(folder, ignore_errors=True)

    def _made(self) -> list[lease.Made]:
        with reading(self._held.db) as session:
            return lease.made(session, build_id=self._claim.build_id)

    def _fail(self, error: Exception) -> None:
        info, retry = _verdict(error)
        self._log.warning("failed", type=info.type, detail=info.detail, retry=retry, exc_info=info.type == "internal")
        claim, known = self._claim, self._held.settings
        self._write("failed", lambda s: lease.fail(s, claim=claim, error=info, retry=retry, settings=known))

    def _write(self, end: str, write: Callable[[Session], bool]) -> None:
        written = self._renewal.write(write)
        if written is None:
            self._log.warning("lease lost before the end was written", end=end)
        else:
            self._log.info(end if written else "too late: the piece had left this builder", end=end)


def _verdict(error: Exception) -> tuple[ErrorInfo, bool]:
    """What the build shall say of an error, and whether another attempt can help."""
    from worker.diffusion.layout import UnsupportedPipeline
    from worker.manifest import IndexMismatch

    if isinstance(error, ServiceError):
        return ErrorInfo.of(error), error.retryable
    if isinstance(error, (IndexMismatch, UnsupportedPipeline)):
        return ErrorInfo(InvalidModel.type, str(error)), False
    return ErrorInfo(ServiceError.type, f"{type(error).__name__}: {error}"), True
