"""What rights-holders allowed models to do with a song, and when: rows are added and never changed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, utcnow
from app.models.catalogue import Song, TrainingPolicy
from app.models.columns import new_id, owner, within


class SongPolicy(Base):
    """A statement that a policy holds from an instant (null: always) until another (null: without end).

    Where statements overlap, the one that was made last holds.
    """

    __tablename__ = "song_policies"
    __table_args__ = (
        within("policy", TrainingPolicy),
        CheckConstraint("valid_from < valid_to", name="order"),
        Index(None, "tenant_id", "song_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id", ondelete="CASCADE"), index=True)
    policy: Mapped[str] = mapped_column(String(16))
    valid_from: Mapped[datetime | None]
    valid_to: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    song: Mapped[Song] = relationship(lazy="raise")
