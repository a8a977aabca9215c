"""A builder's hold on one piece of a build: taken by one UPDATE, renewed by beats, needed for every later write."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from app.attributions.lease import Beat
from app.builds.service import MERGE, ring
from app.db import now
from app.models import Build, BuildPiece, Making, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Update
    from sqlalchemy.orm import Session

    from app.attributions.outcome import ErrorInfo
    from app.config import Settings


@dataclass(frozen=True)
class Claim:
    """A lease on a piece, with all of its build that its holder needs; `attempt` counts from 1."""

    id: str
    token: str
    tenant_id: str
    attempt: int
    name: str
    stage: int
    recipe: str
    build_id: str
    model: str
    folder: str
    model_digest: str | None
    asked: dict[str, Any]
    inputs: dict[str, str]


@dataclass(frozen=True)
class NewPiece:
    """A piece that cutting has found: its file, its stage, the fingerprint of what it is made from, and its size."""

    name: str
    stage: int
    recipe: str
    segments: int
    work: float


@dataclass(frozen=True)
class Cut:
    """What cutting has made: the digests of the parts by name, the pieces to make of them, and of which model."""

    inputs: dict[str, str]
    pieces: Sequence[NewPiece]
    model_digest: str


@dataclass(frozen=True)
class Made:
    """A piece that was made, as the merge needs it."""

    name: str
    stage: int
    recipe: str
    segments: int
    sha256: str


def claim(session: Session, *, piece_id: str, worker_id: str, settings: Settings) -> Claim | None:
    """Take a piece that waits and whose stage has come; None when it is taken, made or not yet due."""
    moment, token = now(session), new_id()
    due = select(Build.stage).where(Build.id == BuildPiece.build_id, Build.status != Making.FAILED).scalar_subquery()
    taking = (
        update(BuildPiece)
        .where(BuildPiece.id == piece_id, BuildPiece.status == Making.QUEUED, BuildPiece.stage == due)
        .values(status=Making.RUNNING, lease_token=token, worker_id=worker_id, attempts=BuildPiece.attempts + 1)
        .values(lease_until=moment + timedelta(seconds=settings.lease_seconds), next_ring_at=None)
        .values(started_at=moment, progress=0.0)
        .returning(BuildPiece.id)
        .execution_options(synchronize_session=False)
    )
    if session.scalars(taking).one_or_none() is None:
        return None
    piece = session.scalars(select(BuildPiece).where(BuildPiece.id == piece_id)).one()
    build = session.scalars(select(Build).where(Build.id == piece.build_id)).one()
    if build.status == Making.QUEUED:
        build.status, build.started_at = Making.RUNNING, moment
    return Claim(
        id=piece.id,
        token=token,
        tenant_id=piece.tenant_id,
        attempt=piece.attempts,
        name=piece.name,
        stage=piece.stage,
        recipe=piece.recipe,
        build_id=build.id,
        model=build.name,
        folder=build.folder,
        model_digest=build.model_digest,
        asked=build.asked,
        inputs=build.inputs,
    )


def beat(session: Session, *, claim: Claim, settings: Settings, progress: float | None = None, **_: object) -> Beat:
    """Renew the lease, note the progress, and learn whether to go on."""
    values: dict[str, Any] = {"lease_until": now(session) + timedelta(seconds=settings.lease_seconds)}
    if progress is not None:
        values["progress"] = min(max(progress, 0.0), 1.0)
    return Beat.OK if _held(session, claim, values) else Beat.LOST


def planned(session: Session, *, claim: Claim, cut: Cut, settings: Settings) -> bool:
    """Note what cutting has made, and let the first pieces be made; False when the lease was lost."""
    build = _build(session, claim)
    if not _held(session, claim, _end(session, Making.SUCCEEDED, sha256="")):
        return False
    owner = {"build_id": claim.build_id, "tenant_id": claim.tenant_id, "status": Making.QUEUED, "progress": 0.0}
    session.execute(
        insert(BuildPiece),
        [{"id": new_id(), "attempts": 0, "rings": 0} | owner | asdict(piece) for piece in cut.pieces],
    )
    build.inputs, build.model_digest = cut.inputs, cut.model_digest
    _advance(session, build, settings)
    return True


def complete(session: Session, *, claim: Claim, sha256: str, settings: Settings) -> bool:
    """End a piece whose file lies in the storage under its digest; the last of a stage lets the next begin."""
    build = _build(session, claim)
    if not _held(session, claim, _end(session, Making.SUCCEEDED, sha256=sha256)):
        return False
    _advance(session, build, settings)
    return True


def made(session: Session, *, build_id: str) -> list[Made]:
    """Return the pieces of a build that the merge puts together."""
    chosen = select(BuildPiece).where(BuildPiece.build_id == build_id, BuildPiece.stage > 0, BuildPiece.name != MERGE)
    rows = session.scalars(chosen.order_by(BuildPiece.stage, BuildPiece.name))
    return [Made(row.name, row.stage, row.recipe, row.segments, row.sha256 or "") for row in rows]


def finish(session: Session, *, claim: Claim, index_digest: str) -> bool:
    """End the merge; the sweeper registers the index that it made, and ends the build."""
    build = _build(session, claim)
    if not _held(session, claim, _end(session, Making.SUCCEEDED)):
        return False
    build.index_digest = index_digest
    return True


def redo(session: Session, *, claim: Claim, name: str, settings: Settings) -> bool:
    """Have a piece made again that the merge refused; the merge waits until it is."""
    build = _build(session, claim)
    if not _held(session, claim, _end(session, Making.QUEUED)):
        return False
    piece = session.scalars(select(BuildPiece).where(BuildPiece.build_id == build.id, BuildPiece.name == name)).one()
    piece.status, piece.sha256, piece.progress, piece.finished_at = Making.QUEUED, None, 0.0, None
    build.stage = piece.stage
    ring(session, [piece], settings)
    return True


def fail(session: Session, *, claim: Claim, error: ErrorInfo, retry: bool, settings: Settings) -> bool:
    """End an attempt at a piece with `error`: another one follows while any is left, else the build has failed."""
    build = _build(session, claim)
    again = retry and claim.attempt < settings.max_attempts
    status = Making.QUEUED if again else Making.FAILED
    ending = _end(session, status) | {"next_ring_at": now(session) if again else None}
    if not _held(session, claim, ending):
        return False
    if not again:
        failed(session, build, error.type, f"{claim.name}: {error.detail}")
    return True


def failed(session: Session, build: Build, kind: str, detail: str) -> None:
    """End a build without an index."""
    build.status, build.finished_at = Making.FAILED, now(session)
    build.error_type, build.error_detail = kind, detail


def release(session: Session, *, claim: Claim) -> bool:
    """Give a piece back, as a builder does that shuts down: no attempt is counted."""
    values = _end(session, Making.QUEUED) | {"attempts": BuildPiece.attempts - 1, "next_ring_at": now(session)}
    return _held(session, claim, values)


def _end(session: Session, status: Making, **facts: Any) -> dict[str, Any]:
    done = status is Making.SUCCEEDED
    ended = {"finished_at": now(session) if done else None, "progress": 1.0 if done else 0.0}
    return {"status": status, "lease_token": None, "lease_until": None} | ended | facts


def _held(session: Session, claim: Claim, values: dict[str, Any]) -> bool:
    changing: Update = update(BuildPiece).where(BuildPiece.id == claim.id, BuildPiece.lease_token == claim.token)
    ended = changing.values(values).returning(BuildPiece.id).execution_options(synchronize_session=False)
    return session.scalars(ended).one_or_none() is not None


def _build(session: Session, claim: Claim) -> Build:
    """Return the claim's build, locked, so that two who end its last pieces do so one after the other."""
    return session.scalars(select(Build).where(Build.id == claim.build_id).with_for_update()).one()


def _advance(session: Session, build: Build, settings: Settings) -> None:
    """Let the next stage begin once nothing of the present one is left."""
    left = select(func.min(BuildPiece.stage)).where(
        BuildPiece.build_id == build.id, BuildPiece.status != Making.SUCCEEDED
    )
    stage = session.scalar(left)
    if stage is None or stage == build.stage:
        return
    build.stage = stage
    due = (BuildPiece.build_id == build.id, BuildPiece.stage == stage, BuildPiece.status == Making.QUEUED)
    ring(
        session,
        list(session.scalars(select(BuildPiece).where(*due).execution_options(populate_existing=True))),
        settings,
    )
