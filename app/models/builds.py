"""Indexes being built, and the files that they are built of."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, utcnow
from app.models.columns import new_id, owner, within
from app.models.leased import Leased, held_while_running


class Making(StrEnum):
    """Where a build of an index, or one file of it, stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Build(Base):
    """An index being built or grown, for the model in `folder`; once it succeeded, its id is that of the registration.

    inputs: SHA-256 by name of what was cut for its pieces and lies in the storage; asked: how it is to be built.
    """

    __tablename__ = "builds"
    __table_args__ = (within("status", Making), Index(None, "tenant_id", "name"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    name: Mapped[str] = mapped_column(String(200))
    folder: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), default=Making.QUEUED)
    stage: Mapped[int] = mapped_column(default=0)
    asked: Mapped[dict[str, Any]] = mapped_column(default=dict)
    inputs: Mapped[dict[str, Any]] = mapped_column(default=dict)
    model_digest: Mapped[str | None] = mapped_column(String(64))
    index_digest: Mapped[str | None] = mapped_column(String(64))
    error_type: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class BuildPiece(Leased, Base):
    """One file of an index to be made, after those of earlier stages; `work` in forward passes of the model."""

    __tablename__ = "build_pieces"
    __table_args__ = (
        within("status", Making),
        held_while_running(),
        UniqueConstraint("build_id", "name"),
        Index("ix_build_pieces_status_ring", "status", "next_ring_at"),
        Index("ix_build_pieces_status_lease", "status", "lease_until"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"))
    tenant_id: Mapped[str] = owner()
    name: Mapped[str] = mapped_column(String(100))
    stage: Mapped[int]
    recipe: Mapped[str] = mapped_column(String(64), default="")
    segments: Mapped[int] = mapped_column(default=0)
    work: Mapped[float] = mapped_column(default=0.0)
    status: Mapped[str] = mapped_column(String(16), default=Making.QUEUED)
    progress: Mapped[float] = mapped_column(default=0.0)
    sha256: Mapped[str | None] = mapped_column(String(64))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
