"""A worker's sign of life: its row in the `workers` table, renewed by a thread."""

import os
import socket
import threading
from datetime import timedelta

import structlog
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from app.db import Database, now, transaction
from app.errors import DatabaseUnavailable
from app.models import Worker, new_id

FORGOTTEN = timedelta(days=1)
"""Rows of workers that were not seen for this long are removed."""

_log = structlog.get_logger(__name__)


class Presence:
    """Says every `every_s` seconds that this process lives, holding which model."""

    def __init__(self, db: Database, *, model_id: str, device: str, every_s: float) -> None:
        self.worker_id = new_id()
        self._db, self._model_id, self._device, self._every_s = db, model_id, device, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="presence", daemon=True)

    def begin(self) -> None:
        """Write the first sign and go on in the background. Raises DatabaseUnavailable."""
        self._sign()
        self._thread.start()

    def hold(self, model_id: str) -> None:
        """Show from the next sign on that the process holds another registration of its model."""
        self._model_id = model_id

    def end(self) -> None:
        """Stop, and take the row away."""
        self._over.set()
        self._thread.join()
        try:
            with transaction(self._db) as session:
                session.execute(delete(Worker).where(Worker.id == self.worker_id))
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            _log.warning("the worker's row stays", error=repr(error))

    def _renew(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self._sign()
            except (DatabaseUnavailable, SQLAlchemyError) as error:
                _log.warning("sign of life not written", error=repr(error))

    def _sign(self) -> None:
        with transaction(self._db) as session:
            moment = now(session)
            known = session.get(Worker, self.worker_id)
            if known is not None:
                known.seen_at, known.model_id = moment, self._model_id
                return
            session.execute(delete(Worker).where(Worker.seen_at < moment - FORGOTTEN))
            facts = {"hostname": socket.gethostname(), "pid": os.getpid(), "device": self._device}
            session.add(Worker(id=self.worker_id, model_id=self._model_id, started_at=moment, seen_at=moment, **facts))
