"""Attributions and the influences that they found."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, utcnow
from app.models.catalogue import Song
from app.models.columns import new_id, owner, within
from app.models.leased import Job, held_while_running
from app.models.training import Model


class Status(StrEnum):
    """Where an attribution stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class Stage(StrEnum):
    """What a running attribution is doing."""

    DECODING = "decoding"
    ENCODING = "encoding"
    UNLEARNING = "unlearning"
    SCORING = "scoring"
    RANKING = "ranking"


class Method(StrEnum):
    """How influence is found: by the precomputed index, or by unlearning in the full model."""

    INDEX = "index"
    UNLEARN = "unlearn"


class Verdict(StrEnum):
    """Whose track it seems to be: the registered model's, another's or a human's, not to be told, or not asked."""

    OWN = "own"
    FOREIGN = "foreign"
    UNSURE = "unsure"
    UNKNOWN = "unknown"


class Attribution(Job, Base):
    """One request, its state and its result. The row is the truth; messages only point to it."""

    __tablename__ = "attributions"
    __table_args__ = (
        within("status", Status),
        within("method", Method),
        CheckConstraint("progress >= 0 AND progress <= 1", name="progress"),
        CheckConstraint("attempts >= 0", name="attempts"),
        held_while_running(),
        Index(None, "tenant_id", "created_at", "id"),
        Index(None, "tenant_id", "status", "created_at", "id"),
        Index(None, "model_id", "created_at", "id"),
        Index(None, "tenant_id", "audio_sha256"),
        Index(None, "tenant_id", "finished_at"),
        Index(None, "audio_key"),
        Index(
            "uq_attributions_batch",
            *("tenant_id", "batch", "custom_id"),
            unique=True,
            postgresql_where=text("batch IS NOT NULL"),
            sqlite_where=text("batch IS NOT NULL"),
        ),
        Index(
            "uq_attributions_counted",
            *("tenant_id", "counts_as"),
            unique=True,
            postgresql_where=text("counted"),
            sqlite_where=text("counted"),
        ),
        Index("ix_attributions_status_ring", "status", "next_ring_at"),
        Index("ix_attributions_status_lease", "status", "lease_until"),
        Index("ix_attributions_status_expiry", "status", "expires_at"),
        Index(None, "finished_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    status: Mapped[str] = mapped_column(String(16), default=Status.QUEUED)
    stage: Mapped[str | None] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(default=0.0)
    method: Mapped[str] = mapped_column(String(16))
    prompt: Mapped[str | None] = mapped_column(Text)
    seed: Mapped[int | None]
    external_id: Mapped[str | None] = mapped_column(String(200))
    counts_as: Mapped[str] = mapped_column(String(64), default=new_id, server_default="unnamed")
    counted: Mapped[bool] = mapped_column(default=False, server_default=false())
    repeats: Mapped[str | None] = mapped_column(String(36))
    batch: Mapped[str | None] = mapped_column(String(100))
    custom_id: Mapped[str | None] = mapped_column(String(200))
    top_k: Mapped[int]
    filename: Mapped[str | None] = mapped_column(String(300))
    audio_key: Mapped[str] = mapped_column(String(200))
    audio_sha256: Mapped[str] = mapped_column(String(64))
    audio_bytes: Mapped[int]
    audio_facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    audio_erased_at: Mapped[datetime | None]

    error_type: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    model_digest: Mapped[str | None] = mapped_column(String(64))
    index_digest: Mapped[str | None] = mapped_column(String(64))
    unattributed: Mapped[float | None]
    provenance_verdict: Mapped[str | None] = mapped_column(String(16))
    provenance_probability: Mapped[float | None]
    reference_loss: Mapped[float | None]
    calibrated: Mapped[bool | None]
    abstained: Mapped[str | None] = mapped_column(Text)
    reliability: Mapped[dict[str, Any]] = mapped_column(default=dict)
    timings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]

    model: Mapped[Model] = relationship(lazy="raise")

    @property
    def model_name(self) -> str:
        """The name of its model, which has to be loaded."""
        return self.model.name


class Influence(Base):
    """One row of a result: a song's part in a track.

    `created_at` is the attribution's end: the time in the history; `counted` is the attribution's.
    """

    __tablename__ = "influences"
    __table_args__ = (
        CheckConstraint("share >= 0", name="share"),
        Index("ix_influences_attribution_rank", "attribution_id", "rank", unique=True),
        Index(
            "ix_influences_history",
            *("tenant_id", "song_id", "created_at", "attribution_id"),
            postgresql_include=["share", "rank", "counted"],
        ),
    )

    attribution_id: Mapped[str] = mapped_column(ForeignKey("attributions.id", ondelete="CASCADE"), primary_key=True)
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id"), primary_key=True)
    tenant_id: Mapped[str] = owner()
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    rank: Mapped[int]
    score: Mapped[float]
    score_low: Mapped[float | None]
    score_high: Mapped[float | None]
    effect: Mapped[float | None]
    share: Mapped[float]
    share_low: Mapped[float | None]
    share_high: Mapped[float | None]
    percentile: Mapped[float]
    counted: Mapped[bool] = mapped_column(default=False, server_default=false())
    check_mirrored: Mapped[float | None]
    check_forward: Mapped[float | None]
    matches: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    song: Mapped[Song] = relationship(lazy="raise")
    attribution: Mapped[Attribution] = relationship(lazy="raise")
