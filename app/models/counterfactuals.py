"""Counterfactuals: a track generated again by a model that forgot one song."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, utcnow
from app.models.attributions import Attribution, Status
from app.models.catalogue import Song
from app.models.columns import new_id, owner, within
from app.models.leased import Job, held_while_running


class ForgettingStage(StrEnum):
    """What a running counterfactual is doing."""

    DECODING = "decoding"
    ENCODING = "encoding"
    FORGETTING = "forgetting"
    MEASURING = "measuring"
    GENERATING = "generating"


class Matched(StrEnum):
    """By what the control song is like the forgotten one."""

    ARTIST = "artist"
    LENGTH = "length"


class Take(StrEnum):
    """Which recording of a counterfactual: nothing forgotten, the song forgotten, the control song forgotten."""

    BASELINE = "baseline"
    FORGOTTEN = "forgotten"
    CONTROL = "control"


class Counterfactual(Job, Base):
    """One song forgotten for one attribution, its state and its result; prompt and seed are those of the generation.

    audio: by take, the key, digest and size of a recording in the storage.
    """

    __tablename__ = "counterfactuals"
    __table_args__ = (
        within("status", Status),
        within("control_match", Matched),
        CheckConstraint("progress >= 0 AND progress <= 1", name="progress"),
        CheckConstraint("attempts >= 0", name="attempts"),
        held_while_running(),
        Index(None, "tenant_id", "attribution_id", "created_at", "id"),
        Index("ix_counterfactuals_status_ring", "status", "next_ring_at"),
        Index("ix_counterfactuals_status_lease", "status", "lease_until"),
        Index("ix_counterfactuals_status_expiry", "status", "expires_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    attribution_id: Mapped[str] = mapped_column(ForeignKey("attributions.id", ondelete="CASCADE"))
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id"))
    control_song_id: Mapped[str | None] = mapped_column(ForeignKey("songs.id"))
    control_match: Mapped[str | None] = mapped_column(String(16))
    prompt: Mapped[str] = mapped_column(Text)
    seed: Mapped[int]
    status: Mapped[str] = mapped_column(String(16), default=Status.QUEUED)
    stage: Mapped[str | None] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(default=0.0)

    error_type: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    audio: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]

    attribution: Mapped[Attribution] = relationship(lazy="raise")
    song: Mapped[Song] = relationship(lazy="raise", foreign_keys=[song_id])
    control_song: Mapped[Song | None] = relationship(lazy="raise", foreign_keys=[control_song_id])


JobTable: TypeAlias = type[Attribution] | type[Counterfactual]
"""The tables whose rows are jobs that workers hold by lease."""
