"""What one worker child keeps between jobs: the model with its index, the database, the storage, its sign of life."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from app.attributions.service import resolve_model
from app.config import Settings, settings
from app.db import Database, engines, reading
from app.models import DEFAULT_TENANT
from app.storage import Storage
from worker.presence import Presence

if TYPE_CHECKING:
    from worker.engine import Engine

stopping = threading.Event()
"""Set when this process was asked to leave: the job in hand is given back, no new one is begun."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Resident:
    """A worker child at work."""

    engine: Engine
    db: Database
    storage: Storage
    settings: Settings
    presence: Presence


@lru_cache(maxsize=1)
def resident() -> Resident:
    """Return the process's model and connections, loaded at the first call, with its sign of life begun.

    Raises UnknownModel when the model is not registered, DatabaseUnavailable, and what loading raises.
    """
    known = settings()
    db = engines(known)
    with reading(db) as session:
        model = resolve_model(session, tenant_id=DEFAULT_TENANT, name=known.model_name)
    from worker.engine import Engine  # torch stays out of Celery's parent

    began = time.monotonic()
    engine = Engine.load(Path(model.folder), known.device)
    _log.info("model loaded", model=model.name, device=known.device, seconds=round(time.monotonic() - began, 1))
    presence = Presence(db, model_id=model.id, device=known.device, every_s=known.heartbeat_seconds)
    presence.begin()
    return Resident(engine, db, Storage.open(known.storage_url), known, presence)


def leave() -> None:
    """End this process's sign of life, if it began."""
    if resident.cache_info().currsize:
        resident().presence.end()
