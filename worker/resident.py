"""What one worker child keeps between jobs: the model with its index, the database, the storage, its sign of life."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

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


class Claim(Protocol):
    """A job that asks for one version of a model: its registration, its folder, the digest of its index."""

    @property
    def model_id(self) -> str:
        """The registration."""
        ...

    @property
    def folder(self) -> str:
        """Where the model lies."""
        ...

    @property
    def index_digest(self) -> str:
        """Which version of its index."""
        ...


@dataclass
class Resident:
    """A worker child at work; `engine`: of the version asked for last; `others`: of those before, the latest first."""

    engine: Engine
    db: Database
    storage: Storage
    settings: Settings
    presence: Presence
    others: tuple[Engine, ...] = ()

    def hold(self, claim: Claim) -> Engine:
        """Return the engine of the version that a job asks for, loaded if it is not held.

        What was not asked for the longest is let go. Raises what loading raises, and then holds what it held.
        """
        if self.engine.index_digest == claim.index_digest:
            return self.engine
        held = {each.index_digest: each for each in (self.engine, *self.others)}
        found = held.pop(claim.index_digest, None) or _loaded(self.settings, claim.folder, claim.index_digest)
        self.engine, self.others = found, tuple(held.values())[: self.settings.held_versions - 1]
        self.presence.hold(claim.model_id)
        return found


@lru_cache(maxsize=1)
def resident() -> Resident:
    """Return the process's model and connections, loaded at the first call, with its sign of life begun.

    Raises UnknownModel when the model is not registered, DatabaseUnavailable, and what loading raises.
    """
    known = settings()
    db = engines(known)
    with reading(db) as session:
        model = resolve_model(session, tenant_id=DEFAULT_TENANT, name=known.model_name)
    engine = _loaded(known, model.folder, model.index_digest)
    presence = Presence(db, model_id=model.id, device=known.device, every_s=known.heartbeat_seconds)
    presence.begin()
    return Resident(engine, db, Storage.open(known.storage_url), known, presence)


def _loaded(known: Settings, folder: str, index_digest: str) -> Engine:
    from worker.engine import Choices, Engine  # torch stays out of Celery's parent
    from worker.scattering import scatter

    began = time.monotonic()
    choices = Choices(scatter=partial(scatter, known, folder)) if known.index_parts else Choices()
    engine = Engine.load(Path(folder), known.device, index_digest, choices)
    _log.info("model loaded", folder=folder, device=known.device, seconds=round(time.monotonic() - began, 1))
    return engine


def leave() -> None:
    """End this process's sign of life, if it began."""
    if resident.cache_info().currsize:
        resident().presence.end()
