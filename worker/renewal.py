"""A lease kept alive while its job runs, and the word that the job must stop."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import leasing
from app.config import Settings
from app.db import Database, transaction
from app.errors import DatabaseUnavailable
from app.leasing import Beat

SHORTEST_SECONDS = 0.25
"""At most one renewal in this time, however fast stages follow each other."""

AGAIN_SECONDS = 1.0
"""Between two attempts to write an end while the database is away."""

_log = structlog.get_logger(__name__)


class Interrupted(Exception):
    """The job must not go on."""


class Canceled(Interrupted):
    """Its owner asked for its end."""


class LeaseLost(Interrupted):
    """Another worker may have it by now."""


class Leaving(Interrupted):
    """The worker was asked to leave."""


class Claim(Protocol):
    """What is held: a job, or a piece of an index."""

    @property
    def id(self) -> str:
        """The id of its row."""
        ...


class Renewal:
    """Renews a claim from a thread with a connection of its own, so that a long computation cannot lose it.

    `report` passes the stage on and raises Canceled, LeaseLost or Leaving once the job must stop.
    """

    def __init__(
        self,
        db: Database,
        claim: Claim,
        settings: Settings,
        leaving: threading.Event,
        beat: Callable[..., Beat] = leasing.beat,
    ) -> None:
        self._db, self._claim, self._settings, self._leaving, self._beats = db, claim, settings, leaving, beat
        self._at: tuple[str | None, float | None] = (None, None)
        self._answer = Beat.OK
        self._over, self._news = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {claim.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._news.set()
        self._thread.join()

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost."""
        return self._answer is Beat.LOST

    def report(self, stage: str, progress: float) -> None:
        """Note where the job stands: `progress` from 0 to 1. Raises Canceled, LeaseLost, Leaving."""
        self._note((stage, progress))

    def progress(self, done: float) -> None:
        """Note how far the job is, from 0 to 1. Raises as `report` does."""
        self._note((None, done))

    def write(self, end: Callable[[Session], bool]) -> bool | None:
        """Write the job's end; while the database is away, keep trying for as long as the lease may hold.

        Returns whether the end was still this holder's to write, None where the lease was lost before.
        """
        while not self.lost:
            try:
                with transaction(self._db) as session:
                    return end(session)
            except DatabaseUnavailable:
                time.sleep(AGAIN_SECONDS)
        return None

    def _note(self, at: tuple[str | None, float | None]) -> None:
        if self._at != at:
            self._at = at
            self._news.set()
        if self.lost:
            raise LeaseLost
        if self._answer is Beat.CANCEL:
            raise Canceled
        if self._leaving.is_set():
            raise Leaving

    def _renew(self) -> None:
        renewed = time.monotonic()
        try:
            while not self._over.is_set() and not self.lost:
                try:
                    self._answer = self._beat()
                    renewed = time.monotonic()
                except (DatabaseUnavailable, SQLAlchemyError) as error:
                    _log.warning("lease not renewed", id=self._claim.id, error=repr(error))
                    if time.monotonic() - renewed > self._settings.lease_seconds:
                        return
                self._over.wait(SHORTEST_SECONDS)
                self._news.wait(self._settings.heartbeat_seconds)
                self._news.clear()
        finally:
            if not self._over.is_set():
                self._answer = Beat.LOST

    def _beat(self) -> Beat:
        stage, progress = self._at
        with transaction(self._db) as session:
            return self._beats(session, claim=self._claim, stage=stage, progress=progress, settings=self._settings)
