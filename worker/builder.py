"""The Celery application of builders, who make indexes: any number of them, on any host that sees the models' folders.

The child imports torch at its first piece, so that a builder with nothing to do costs little.
"""

import signal
from typing import Any

from celery.signals import worker_process_init

from app import logs
from app.builds.service import QUEUE
from app.config import settings
from worker.broker import application
from worker.resident import stopping

celery = application(__name__, {"worker.building_tasks": QUEUE})


@worker_process_init.connect
def _child_starts(**_: Any) -> None:
    logs.configure(settings())
    signal.signal(signal.SIGUSR2, lambda *_: stopping.set())
