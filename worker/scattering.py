"""Asking the scanners that hold an index in parts. What none of them answers in time is scanned here, with one result.

The questions are Celery tasks and the answers come back through the broker; neither is kept, for the job in hand lives
in the database and is asked again by whoever takes it up.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from celery.exceptions import TimeoutError as NoAnswer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.queue import sending
from worker.finding import scattered
from worker.parts import Answer, Part, Question
from worker.scanning import TASK, queue_name

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from app.config import Settings
    from worker.finding import Finder
    from worker.index import Index

AWAY_SECONDS = 30.0
"""How long a part whose scanner did not answer is not asked again."""

_SILENCE = (OperationalError, RedisError, OSError, RuntimeError)
_PAUSE = 0.002
_log = structlog.get_logger(__name__)


def scatter(settings: Settings, folder: str, index: Index) -> Finder:
    """Return what scans `index`, which lies in `folder`/index: scanners where the settings speak of several parts."""
    return scattered(index, settings.index_parts, Scanners(settings, Path(folder) / "index", index))


class Scanners:
    """Puts questions to the scanners of an index, each of whom holds a part."""

    def __init__(self, settings: Settings, folder: Path, index: Index) -> None:
        self._settings, self._folder, self._index = settings, folder, index
        self._celery = sending(settings.broker_url, answered=True)
        self._away: dict[int, float] = {}
        self._opened: dict[int, Part] = {}

    def __call__(self, questions: dict[int, Question]) -> dict[int, Answer]:
        """Return the answer of every part that is asked; raises what opening a part here raises."""
        sent = {number: self._send(number, question) for number, question in questions.items()}
        limit = time.monotonic() + self._settings.scan_seconds
        told = {number: self._receive(number, result, limit) for number, result in sent.items()}
        return {number: told[number] or self._here(number).answer(question) for number, question in questions.items()}

    def _send(self, number: int, question: Question) -> AsyncResult[str] | None:
        if time.monotonic() < self._away.get(number, 0.0):
            return None
        known = self._settings
        queue = queue_name(known.model_name, number + 1, known.index_parts)
        message = [self._index.manifest.index_digest, b64encode(question.packed()).decode()]
        try:
            return self._celery.send_task(TASK, message, queue=queue, expires=known.scan_seconds, ignore_result=False)
        except _SILENCE as error:
            self._absent(number, error)
            return None

    def _receive(self, number: int, result: AsyncResult[str] | None, limit: float) -> Answer | None:
        if result is None:
            return None
        try:
            return Answer.unpacked(b64decode(_awaited(result, limit)))
        except SoftTimeLimitExceeded:
            raise  # the job's own limit
        except Exception as error:  # noqa: BLE001  whatever went wrong there, it is scanned here
            self._absent(number, error)
            return None

    def _absent(self, number: int, error: Exception) -> None:
        _log.warning("part not scanned elsewhere", part=number + 1, error=repr(error))
        self._away[number] = time.monotonic() + AWAY_SECONDS
        if isinstance(error, _SILENCE):  # an application that lost its broker does not find it again
            self._celery.close()
            self._celery = sending(self._settings.broker_url, answered=True)

    def _here(self, number: int) -> Part:
        if number not in self._opened:
            index, of = self._index, self._settings.index_parts
            self._opened[number] = Part.open(index.manifest, self._folder, number, of, index.device)
        return self._opened[number]


def _awaited(result: AsyncResult[str], limit: float) -> str:
    """Ask until the answer is there: one that comes just as one subscribes to it would be missed."""
    while not result.ready():
        if time.monotonic() > limit:
            raise NoAnswer("no answer in time")
        time.sleep(_PAUSE)
    said = result.get(disable_sync_subtasks=False)
    result.forget()
    return said
