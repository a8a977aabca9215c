"""Registered models and what they were trained on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, utcnow
from app.models.columns import new_id, owner


class Model(Base):
    """A registered generative pipeline with one index; a name stands for its newest registration."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("tenant_id", "name", "index_digest"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
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
    tenant_id: Mapped[str] = owner()
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id"), index=True)
    segments: Mapped[int]
