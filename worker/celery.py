"""The Celery application: one spawned child a device, which loads the model once and keeps it.

The parent only passes messages on; torch is imported in the child alone. Messages are acknowledged early:
what a dead worker held comes back through the lease in the database.
"""

import os
import signal
from typing import Any

from billiard.process import active_children
from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown, worker_shutting_down

from app import logs
from app.attributions.service import queue_name
from app.config import settings
from worker import resident

LOADING_SECONDS = 600.0
"""How long a child may take to import torch and to load its model."""
CLEANUP_SECONDS = 30.0
"""Between asking a job that runs too long to stop, and killing its child."""


celery = Celery("rootnote", broker=settings().broker_url, include=["worker.tasks"])
celery.conf.update(
    accept_content=["json"],
    task_serializer="json",
    task_ignore_result=True,
    task_acks_late=False,
    task_default_queue=queue_name(settings().model_name),
    task_soft_time_limit=settings().job_seconds,
    task_time_limit=settings().job_seconds + CLEANUP_SECONDS,
    worker_pool="prefork",
    worker_pool_start_method="spawn",
    worker_concurrency=1,
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    worker_proc_alive_timeout=LOADING_SECONDS,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"socket_connect_timeout": 2.0, "health_check_interval": 10},
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


@worker_shutting_down.connect
def _parent_leaves(**_: Any) -> None:
    """Ask the children to hand back what they are doing."""
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGUSR2)
