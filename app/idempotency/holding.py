"""A key that is held while its request is carried out: the claim is renewed for as long as this process lives."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.config import Settings
from app.db import Database, transaction
from app.errors import DatabaseUnavailable
from app.idempotency import service
from app.idempotency.service import Claim

BEATS = 3
"""How often a claim is renewed in the time for which it is good."""
_log = structlog.get_logger(__name__)


class Holding:
    """A claim of this process, renewed until it is ended; where the process dies it lapses by itself."""

    def __init__(self, database: Database, claim: Claim, settings: Settings) -> None:
        self._database, self._claim, self._settings = database, claim, settings
        self._over = asyncio.Event()
        self._renewing = asyncio.create_task(self._renew())

    async def end(self, write: Callable[[Session, Claim], None]) -> None:
        """Renew it no more, and write how it ended."""
        self._over.set()  # before anything is waited for: also a request that is being cancelled gets as far as here
        await self._renewing
        try:
            await run_in_threadpool(self._write, write)
        except DatabaseUnavailable:  # the caller's answer stands; a repetition finds what was made by its id
            _log.warning("answer not kept", key=self._claim.key)

    async def _renew(self) -> None:
        renew, pause = partial(service.renew, settings=self._settings), self._settings.idempotency_lock_seconds / BEATS
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause)
                return
            with suppress(DatabaseUnavailable):  # the next beat may get through
                await run_in_threadpool(self._write, renew)

    def _write(self, write: Callable[[Session, Claim], None]) -> None:
        with transaction(self._database) as session:
            write(session, self._claim)
