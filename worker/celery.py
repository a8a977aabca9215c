"""The Celery application: one spawned child a device, which loads the model once and keeps it.

The parent only passes messages on; torch is imported in the child alone. Messages are acknowledged early:
what a dead worker held comes back through the lease in the database.
"""

import os
import signal
from typing import Any

from celery.signals import worker_process_init, worker_process_shutdown

from app import logs
from app.attributions import service as attributions
from app.config import settings
from app.counterfactuals import service as counterfactuals
from worker import resident
from worker.broker import application

CLEANUP_SECONDS = 30.0
"""Between asking a job that runs too long to stop, and killing its child."""

celery = application(
    __name__,
    {
        "worker.tasks": attributions.queue_name(settings().model_name),
        "worker.forgetting_tasks": counterfactuals.queue_name(settings().model_name),
    },
    {"task_soft_time_limit": settings().job_seconds, "task_time_limit": settings().job_seconds + CLEANUP_SECONDS},
)


@worker_process_init.connect
def _child_starts(**_: Any) -> None:
    """Load the model before the first job. A worker that cannot do so leaves, so that its supervisor says so."""
    logs.configure(settings())
    signal.signal(signal.SIGUSR2, lambda *_: resident.stopping.set())
    try:
        resident.resident()
    except BaseException:
        os.kill(os.getppid(), signal.SIGTERM)
        raise


@worker_process_shutdown.connect
def _child_leaves(**_: Any) -> None:
    resident.leave()
