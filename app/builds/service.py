"""Builds of indexes as their starter sees them: begin one, and look how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, or_, select

from app import queue
from app.db import now
from app.errors import Conflict, NotFound
from app.models import Build, BuildPiece, Making, new_id

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.config import Settings

TASK = "rootnote.build_shard"
QUEUE = "build"
CUT, MERGE = "cut", "merge"


@dataclass(frozen=True)
class NewBuild:
    """What is to be built: the model's name and folder, where its training set lies in the storage, and how.

    grows: whether the songs are added to the folder's index; how: further wishes, understood by the worker.
    """

    name: str
    folder: str
    training_key: str
    training_sha256: str
    grows: bool
    how: dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """How far a build is: the part of its work that is done, and when it will end at the pace so far."""

    id: str
    name: str
    status: str
    pieces: int
    pieces_done: int
    progress: float
    eta: datetime | None
    error: str | None
    index_digest: str | None
    model_digest: str | None
    created_at: datetime

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in {Making.SUCCEEDED, Making.FAILED}


def submit(session: Session, *, tenant_id: str, wanted: NewBuild, settings: Settings) -> str:
    """Begin a build, whose first piece cuts the training set into the others, and return its id.

    Raises Conflict while another build is under way in the same folder.
    """
    busy = (Build.folder == wanted.folder, Build.status.in_([Making.QUEUED, Making.RUNNING]))
    if session.scalar(select(Build.id).where(*busy).limit(1)):
        raise Conflict(f"an index is being built in {wanted.folder} already")
    asked = {"training_key": wanted.training_key, "training_sha256": wanted.training_sha256, "grows": wanted.grows}
    build = Build(
        id=new_id(),
        tenant_id=tenant_id,
        name=wanted.name,
        folder=wanted.folder,
        asked=asked | {"how": wanted.how},
        created_at=now(session),
    )
    session.add(build)
    session.flush()
    cut = BuildPiece(id=new_id(), build_id=build.id, tenant_id=tenant_id, name=CUT, stage=0, next_ring_at=now(session))
    session.add(cut)
    session.flush()
    ring(session, [cut], settings)
    return build.id


def ring(session: Session, pieces: list[BuildPiece], settings: Settings) -> None:
    """Tell the builders, after the commit, that these pieces wait; the sweeper tells them again."""
    for piece in pieces:
        wait = min(settings.ring_seconds * 2 ** min(piece.rings, 30), settings.ring_max_seconds)
        piece.next_ring_at = now(session) + timedelta(seconds=wait)
        queue.ring(session, queue.Message(TASK, piece.id, QUEUE), settings=settings)


def standing(session: Session, *, tenant_id: str, named: str) -> Standing:
    """Return how far the build of an id, or the newest of a model's name, is; raises NotFound."""
    either = or_(Build.id == named, Build.name == named)
    newest = select(Build).where(Build.tenant_id == tenant_id, either).order_by(Build.id.desc()).limit(1)
    build = session.scalar(newest)
    if build is None:
        raise NotFound(f"nothing is being built under the name {named}")
    counts = select(
        func.count(),
        func.count().filter(BuildPiece.status == Making.SUCCEEDED),
        func.coalesce(func.sum(BuildPiece.work), 0.0),
        func.coalesce(func.sum(BuildPiece.work * BuildPiece.progress), 0.0),
    ).where(BuildPiece.build_id == build.id)
    pieces, made, work, done = session.execute(counts).one()
    progress = 1.0 if build.status == Making.SUCCEEDED else min(done / work, 0.999) if work else 0.0
    return Standing(
        id=build.id,
        name=build.name,
        status=build.status,
        pieces=pieces,
        pieces_done=made,
        progress=progress,
        eta=_eta(build, progress, now(session)),
        error=build.error_detail,
        index_digest=build.index_digest,
        model_digest=build.model_digest,
        created_at=build.created_at,
    )


def under_way(session: Session, *, tenant_id: str, name: str) -> Standing | None:
    """Return how far the build of a model's next index is, None where there is none under way."""
    busy = (Build.tenant_id == tenant_id, Build.name == name, Build.status.in_([Making.QUEUED, Making.RUNNING]))
    ident = session.scalar(select(Build.id).where(*busy).limit(1))
    return standing(session, tenant_id=tenant_id, named=ident) if ident else None


def _eta(build: Build, progress: float, moment: datetime) -> datetime | None:
    if build.status != Making.RUNNING or build.started_at is None or not progress:
        return None
    return moment + (moment - build.started_at) * ((1 - progress) / progress)
