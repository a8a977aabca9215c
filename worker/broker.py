"""How every Celery application of ours is set up: JSON, early acknowledgement, one spawned child a device."""

import os
import signal
from collections.abc import Mapping
from typing import Any

from billiard.process import active_children
from celery import Celery
from celery.signals import setup_logging, worker_shutting_down
from kombu import Exchange, Queue

from app import logs
from app.config import settings

LOADING_SECONDS = 600.0
"""How long a child may take to import torch and to load its model."""


def application(name: str, queues: Mapping[str, str], more: Mapping[str, Any] | None = None) -> Celery:
    """Return the application of the module `name`, which carries out the tasks of modules, each from its queue.

    queues: module → queue; more: what else Celery shall be told, such as time limits. Children import that module too:
    what it does when they start would not happen otherwise.
    """
    celery = Celery(name, broker=settings().broker_url, include=[name, *queues])
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_queues=[Queue(each, Exchange(each), routing_key=each) for each in queues.values()],
        task_default_queue=next(iter(queues.values())),
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
        **(more or {}),
    )
    return celery


@setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    """Take Celery's own lines into ours; being connected keeps it from setting up logging itself."""
    logs.configure(settings())


@worker_shutting_down.connect
def _parent_leaves(**_: Any) -> None:
    """Ask the children to hand back what they are doing."""
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGUSR2)
