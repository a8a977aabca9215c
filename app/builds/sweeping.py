"""What the sweeper does to builds: ends lapsed leases on pieces, rings again, registers what was merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from app.builds.lease import failed
from app.builds.service import ring
from app.catalogue.registry import register_model
from app.db import now
from app.errors import AttemptsExhausted, InvalidModel
from app.models import Build, BuildPiece, Making

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.config import Settings

BATCH = 200


def sweep(session: Session, *, settings: Settings) -> int:
    """Do both, at most `BATCH` pieces each, and return how many were touched; rings go out after the commit."""
    return lapse(session, settings=settings) + ring_due(session, settings=settings)


def lapse(session: Session, *, settings: Settings) -> int:
    """Give back the pieces whose builder is gone; one that used up its attempts ends its build."""
    late = _locked(session, BuildPiece.status == Making.RUNNING, BuildPiece.lease_until < now(session))
    for piece in late:
        piece.lease_token, piece.lease_until, piece.progress = None, None, 0.0
        if piece.attempts < settings.max_attempts:
            piece.status, piece.next_ring_at = Making.QUEUED, now(session)
        else:
            piece.status = Making.FAILED
            build = session.scalars(select(Build).where(Build.id == piece.build_id).with_for_update()).one()
            failed(session, build, AttemptsExhausted.type, f"{piece.name}: {piece.attempts} attempts ended without it")
    return len(late)


def ring_due(session: Session, *, settings: Settings) -> int:
    """Ring again for pieces that wait and could be made."""
    due = select(Build.stage).where(Build.id == BuildPiece.build_id, Build.status != Making.FAILED).scalar_subquery()
    waiting = (BuildPiece.status == Making.QUEUED, BuildPiece.next_ring_at <= now(session), BuildPiece.stage == due)
    pieces = list(_locked(session, *waiting))
    for piece in pieces:
        piece.rings += 1
    ring(session, pieces, settings)
    return len(pieces)


def register(session: Session) -> int:
    """Register the indexes that were merged since, which ends their builds, and return how many."""
    merged = (Build.status == Making.RUNNING, Build.index_digest.is_not(None))
    builds = session.scalars(select(Build).where(*merged).limit(BATCH).with_for_update(skip_locked=True)).all()
    for build in builds:
        try:
            with session.begin_nested():
                register_model(session, build.tenant_id, Path(build.folder), build.name, build.id)
        except InvalidModel as error:
            failed(session, build, error.type, error.detail)
        else:
            build.status, build.finished_at = Making.SUCCEEDED, now(session)
    return len(builds)


def _locked(session: Session, *conditions: ColumnElement[bool]) -> Sequence[BuildPiece]:
    chosen = select(BuildPiece).where(*conditions).order_by(BuildPiece.id).limit(BATCH)
    return session.scalars(chosen.with_for_update(skip_locked=True).execution_options(populate_existing=True)).all()
