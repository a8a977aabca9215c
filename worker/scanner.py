"""The Celery application of scanners: each holds one part of a model's index and answers workers' questions about it.

One scanner a device; two of the same part share its questions. A scanner needs the files of its part alone.
"""

from typing import Any

import structlog
from celery.signals import worker_process_init

from app import logs
from app.config import settings
from app.errors import ServiceError
from worker.broker import application
from worker.scanning import queue_name
from worker.scanning_tasks import holder

ANSWERED_SECONDS = 60
"""How long the broker keeps an answer that nobody fetched."""

_known = settings()
celery = application(
    __name__,
    {"worker.scanning_tasks": queue_name(_known.model_name, _known.index_part, max(_known.index_parts, 1))},
    {"result_backend": _known.broker_url, "result_expires": ANSWERED_SECONDS},
)


@worker_process_init.connect
def _child_starts(**_: Any) -> None:
    """Open the newest version, so that the first question is not the one that waits for it."""
    logs.configure(settings())
    try:
        holder().newest()
    except ServiceError as error:  # not registered yet, or the database is away: opened when asked for
        structlog.get_logger(__name__).warning("no part opened yet", error=repr(error))
