"""The one task of a scanner: answer a question about the part of the index that this process holds."""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from celery import shared_task
from sqlalchemy import select

from app.attributions.service import resolve_model
from app.config import Settings, settings
from app.db import Database, engines, reading
from app.errors import UnknownModel
from app.models import DEFAULT_TENANT, Model
from worker.scanning import TASK

if TYPE_CHECKING:
    from worker.parts import Part

_log = structlog.get_logger(__name__)


class Holder:
    """Keeps this scanner's part of the versions of the index that were asked for last."""

    def __init__(self, db: Database, known: Settings) -> None:
        self._db, self._known, self._of = db, known, max(known.index_parts, 1)
        self._parts: OrderedDict[str, Part] = OrderedDict()

    def part(self, index_digest: str) -> Part:
        """Return the part of a version; raises UnknownModel, and what opening it raises."""
        if index_digest not in self._parts:
            self._parts[index_digest] = self._open(index_digest)
        self._parts.move_to_end(index_digest)
        while len(self._parts) > self._known.held_versions:
            self._parts.popitem(last=False)
        return self._parts[index_digest]

    def newest(self) -> Part:
        """Return the part of the model's newest version; raises the same."""
        with reading(self._db) as session:
            model = resolve_model(session, tenant_id=DEFAULT_TENANT, name=self._known.model_name)
        return self.part(model.index_digest)

    def _open(self, index_digest: str) -> Part:
        import torch  # stays out of Celery's parent, and so does what imports it

        from worker.engine import chosen_device
        from worker.manifest import Manifest
        from worker.parts import Part

        began, known = time.monotonic(), self._known
        folder = Path(self._registered(index_digest).folder) / "index"
        manifest = Manifest.read(folder, index_digest)
        device = torch.device(chosen_device(known.device))
        part = Part.open(manifest, folder, known.index_part - 1, self._of, device)
        seconds = round(time.monotonic() - began, 2)
        _log.info("part opened", part=known.index_part, of=self._of, songs=part.sums.songs, seconds=seconds)
        return part

    def _registered(self, index_digest: str) -> Model:
        named = (Model.tenant_id == DEFAULT_TENANT, Model.name == self._known.model_name)
        with reading(self._db) as session:
            model = session.scalars(select(Model).where(*named, Model.index_digest == index_digest)).one_or_none()
        if model is None:
            raise UnknownModel(f"no version {index_digest} of {self._known.model_name} is registered")
        return model


@lru_cache(maxsize=1)
def holder() -> Holder:
    """Return the process's part, nothing of it opened yet."""
    known = settings()
    return Holder(engines(known), known)


@shared_task(name=TASK, ignore_result=False)
def scan(index_digest: str, question: str) -> str:
    """Answer a question about a version of the index, both packed and in base 64."""
    from worker.parts import Question  # torch stays out of Celery's parent

    answer = holder().part(index_digest).answer(Question.unpacked(b64decode(question)))
    return b64encode(answer.packed()).decode()
