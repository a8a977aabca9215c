"""The doorbell: a message by name, after the commit, that a job waits. Losing one costs time, never a job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.db import after_commit

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.config import Settings

log = structlog.get_logger(__name__)
TIMEOUT_SECONDS = 2.0
_RINGS = "rings"


@dataclass(frozen=True)
class Message:
    """One ring: the task to run, the id of the row it is about, and the queue of those who can."""

    task: str
    ident: str
    queue: str


def ring(session: Session, message: Message, *, settings: Settings) -> None:
    """Send `message` once the session's transaction is committed; a broker that is down is logged, never raised."""
    waiting: list[Message] = session.info.setdefault(_RINGS, [])
    if not waiting:
        after_commit(session, partial(_send, waiting, settings.broker_url))
    waiting.append(message)


def _send(messages: list[Message], broker_url: str) -> None:
    """All messages, in order; the first failure ends it, or a dead broker would cost its timeout for each."""
    celery = producer(broker_url)
    for message in messages:
        try:
            celery.send_task(message.task, args=[message.ident], queue=message.queue, ignore_result=True)
        except (OperationalError, RedisError, OSError) as error:
            log.warning("doorbell silent", task=message.task, ident=message.ident, error=str(error))
            return


@lru_cache
def producer(broker_url: str) -> Celery:
    """A Celery application that only sends; every wait for the broker ends after two seconds."""
    return sending(broker_url)


def sending(broker_url: str, *, answered: bool = False) -> Celery:
    """A new Celery application that sends, and hears answers where it is `answered`."""
    backend = broker_url if answered else None
    celery = Celery("rootnote-producer", broker=broker_url, backend=backend, set_as_current=False)
    celery.conf.update(
        task_publish_retry=False,
        task_serializer="json",
        broker_connection_timeout=TIMEOUT_SECONDS,
        redis_socket_timeout=TIMEOUT_SECONDS,
        redis_socket_connect_timeout=TIMEOUT_SECONDS,
        result_backend_transport_options={"retry_policy": {"max_retries": 1, "interval_start": 0}},
        broker_transport_options={
            "socket_timeout": TIMEOUT_SECONDS,
            "socket_connect_timeout": TIMEOUT_SECONDS,
            "retry_on_timeout": False,
            "max_retries": 1,
            "interval_start": 0,
        },
    )
    return celery


def reachable(settings: Settings) -> bool:
    """Whether the broker answers a ping within two seconds."""
    url = settings.broker_url.replace("redis+socket://", "unix://", 1)
    timeouts = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    try:
        with Redis.from_url(url, retry=Retry(NoBackoff(), 0), **timeouts) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False
