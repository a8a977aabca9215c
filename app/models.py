"""The tables. What belongs to a tenant says so in its row; ids are UUIDv7 strings, which sort by time of creation."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import uuid_utils
from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, event, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app import words
from app.db import Base, utcnow
from app.words import Words

DEFAULT_TENANT = "default"


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


class Making(StrEnum):
    """Where a build of an index, or one file of it, stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class TrainingPolicy(StrEnum):
    """What a rights-holder allows generative models to do with a song."""

    ALLOW = "allow"
    LIMIT = "limit"
    BLOCK = "block"


def new_id() -> str:
    """A fresh UUIDv7 as text: unique, and ordered by time."""
    return str(uuid_utils.uuid7())


def _within(column: str, words: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(word.value) for word in words)})", name=column)


def _tenant() -> Mapped[str]:
    return mapped_column(String(64), ForeignKey("tenants.id"))


class Tenant(Base):
    """The owner of every row."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    turn: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Quota(Base):
    """What a tenant may use, None meaning no limit; and the requests that it made in the minute of its last one."""

    __tablename__ = "quotas"

    tenant_id: Mapped[str] = mapped_column(String(64), ForeignKey("tenants.id"), primary_key=True)
    requests_per_minute: Mapped[int | None]
    jobs_per_month: Mapped[int | None]
    minute: Mapped[datetime | None]
    requests: Mapped[int] = mapped_column(default=0)


class Usage(Base):
    """What a tenant used in one month (UTC, as YYYY-MM)."""

    __tablename__ = "usage"

    tenant_id: Mapped[str] = mapped_column(String(64), ForeignKey("tenants.id"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    jobs: Mapped[int] = mapped_column(default=0)
    audio_s: Mapped[float] = mapped_column(default=0.0)
    device_s: Mapped[float] = mapped_column(default=0.0)


class Song(Base):
    """A catalogue recording; `key` is its name in training sets, unique within a tenant."""

    __tablename__ = "songs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        Index(None, "tenant_id", "id"),
        Index(None, "tenant_id", "isrc"),
        Index(None, "tenant_id", "artist_plain", "id"),
        Index("ix_songs_words", "words", postgresql_using="gin", info={"dialect": "postgresql"}).ddl_if("postgresql"),
        _within("training_policy", TrainingPolicy),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = _tenant()
    key: Mapped[str] = mapped_column(String(200))
    title: Mapped[str] = mapped_column(String(500))
    artist: Mapped[str] = mapped_column(String(500))
    artist_plain: Mapped[str | None] = mapped_column(Text, deferred=True)
    words: Mapped[list[str] | None] = mapped_column(Words, deferred=True)
    isrc: Mapped[str | None] = mapped_column(String(12))
    iswc: Mapped[str | None] = mapped_column(String(11))
    upc: Mapped[str | None] = mapped_column(String(14))
    duration_s: Mapped[float | None]
    licence: Mapped[str] = mapped_column(String(200), default="")
    training_policy: Mapped[str] = mapped_column(String(16), default=TrainingPolicy.ALLOW)
    audio_key: Mapped[str | None] = mapped_column(String(200))
    audio_sha256: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)

    rights: Mapped[list[Right]] = relationship(lazy="raise", cascade="all, delete-orphan", order_by="Right.id")


@event.listens_for(Song, "before_insert")
@event.listens_for(Song, "before_update")
def _searchable(_: object, __: object, song: Song) -> None:
    """Derive what is searched from what is shown."""
    song.artist_plain = words.plain(song.artist)
    song.words = words.split(song.title, song.artist, song.key)


class Right(Base):
    """One party's share in a song, 0 to 1, in one role."""

    __tablename__ = "rights"
    __table_args__ = (CheckConstraint("share >= 0 AND share <= 1", name="share"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = _tenant()
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id", ondelete="CASCADE"), index=True)
    party: Mapped[str] = mapped_column(String(300))
    role: Mapped[str] = mapped_column(String(50))
    ipi: Mapped[str | None] = mapped_column(String(11))
    isni: Mapped[str | None] = mapped_column(String(16))
    share: Mapped[float]


class Model(Base):
    """A registered generative pipeline with one index; a name stands for its newest registration."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("tenant_id", "name", "index_digest"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = _tenant()
    name: Mapped[str] = mapped_column(String(200))
    folder: Mapped[str] = mapped_column(Text)
    model_digest: Mapped[str] = mapped_column(String(64))
    index_digest: Mapped[str] = mapped_column(String(64))
    segment_seconds: Mapped[float]
    segments: Mapped[int]
    songs: Mapped[int]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class TrainingSong(Base):
    """A song of a model's training set, under the key that the index knows it by."""

    __tablename__ = "training_songs"
    __table_args__ = (UniqueConstraint("model_id", "song_id"),)

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    tenant_id: Mapped[str] = _tenant()
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id"), index=True)
    segments: Mapped[int]


class Attribution(Base):
    """One request, its state and its result. The row is the truth; messages only point to it."""

    __tablename__ = "attributions"
    __table_args__ = (
        _within("status", Status),
        _within("method", Method),
        CheckConstraint("progress >= 0 AND progress <= 1", name="progress"),
        CheckConstraint("attempts >= 0", name="attempts"),
        CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="lease"),
        Index(None, "tenant_id", "created_at", "id"),
        Index(None, "tenant_id", "status", "created_at", "id"),
        Index(None, "model_id", "created_at", "id"),
        Index(None, "tenant_id", "audio_sha256"),
        Index(
            "uq_attributions_batch",
            *("tenant_id", "batch", "custom_id"),
            unique=True,
            postgresql_where=text("batch IS NOT NULL"),
            sqlite_where=text("batch IS NOT NULL"),
        ),
        Index("ix_attributions_status_ring", "status", "next_ring_at"),
        Index("ix_attributions_status_lease", "status", "lease_until"),
        Index("ix_attributions_status_expiry", "status", "expires_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = _tenant()
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    status: Mapped[str] = mapped_column(String(16), default=Status.QUEUED)
    stage: Mapped[str | None] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(default=0.0)
    method: Mapped[str] = mapped_column(String(16))
    prompt: Mapped[str | None] = mapped_column(Text)
    external_id: Mapped[str | None] = mapped_column(String(200))
    repeats: Mapped[str | None] = mapped_column(String(36))
    batch: Mapped[str | None] = mapped_column(String(100))
    custom_id: Mapped[str | None] = mapped_column(String(200))
    top_k: Mapped[int]
    filename: Mapped[str | None] = mapped_column(String(300))
    audio_key: Mapped[str] = mapped_column(String(200))
    audio_sha256: Mapped[str] = mapped_column(String(64))
    audio_bytes: Mapped[int]
    audio_facts: Mapped[dict[str, Any]] = mapped_column(default=dict)

    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None] = mapped_column(String(36))
    lease_until: Mapped[datetime | None]
    worker_id: Mapped[str | None] = mapped_column(String(36))
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    not_before: Mapped[datetime | None]
    next_ring_at: Mapped[datetime | None]
    rings: Mapped[int] = mapped_column(default=0)

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


class Influence(Base):
    """One row of a result: a song's part in a track. `created_at` is the attribution's end: the time in the history."""

    __tablename__ = "influences"
    __table_args__ = (
        CheckConstraint("share >= 0", name="share"),
        Index("ix_influences_attribution_rank", "attribution_id", "rank", unique=True),
        Index(
            "ix_influences_history",
            *("tenant_id", "song_id", "created_at", "attribution_id"),
            postgresql_include=["share", "rank"],
        ),
    )

    attribution_id: Mapped[str] = mapped_column(ForeignKey("attributions.id", ondelete="CASCADE"), primary_key=True)
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id"), primary_key=True)
    tenant_id: Mapped[str] = _tenant()
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
    check_mirrored: Mapped[float | None]
    check_forward: Mapped[float | None]
    matches: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    song: Mapped[Song] = relationship(lazy="raise")
    attribution: Mapped[Attribution] = relationship(lazy="raise")


class Build(Base):
    """An index being built or grown, for the model in `folder`; once it succeeded, its id is that of the registration.

    inputs: SHA-256 by name of what was cut for its pieces and lies in the storage; asked: how it is to be built.
    """

    __tablename__ = "builds"
    __table_args__ = (_within("status", Making), Index(None, "tenant_id", "name"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = _tenant()
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


class BuildPiece(Base):
    """One file of an index to be made, after those of earlier stages; `work` in forward passes of the model."""

    __tablename__ = "build_pieces"
    __table_args__ = (
        _within("status", Making),
        CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="lease"),
        UniqueConstraint("build_id", "name"),
        Index("ix_build_pieces_status_ring", "status", "next_ring_at"),
        Index("ix_build_pieces_status_lease", "status", "lease_until"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"))
    tenant_id: Mapped[str] = _tenant()
    name: Mapped[str] = mapped_column(String(100))
    stage: Mapped[int]
    recipe: Mapped[str] = mapped_column(String(64), default="")
    segments: Mapped[int] = mapped_column(default=0)
    work: Mapped[float] = mapped_column(default=0.0)
    status: Mapped[str] = mapped_column(String(16), default=Making.QUEUED)
    progress: Mapped[float] = mapped_column(default=0.0)
    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None] = mapped_column(String(36))
    lease_until: Mapped[datetime | None]
    worker_id: Mapped[str | None] = mapped_column(String(36))
    next_ring_at: Mapped[datetime | None]
    rings: Mapped[int] = mapped_column(default=0)
    sha256: Mapped[str | None] = mapped_column(String(64))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Worker(Base):
    """A worker process seen lately; readiness reads `seen_at`."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    hostname: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id"))
    device: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime] = mapped_column(default=utcnow)
    seen_at: Mapped[datetime] = mapped_column(default=utcnow)
