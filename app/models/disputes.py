"""Rows of a result that somebody disputes, and what a review made of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, utcnow
from app.models.catalogue import Song
from app.models.columns import new_id, owner, within


class DisputeOutcome(StrEnum):
    """What a review decided: the dispute is right, or the row stands."""

    UPHELD = "upheld"
    REJECTED = "rejected"


class Dispute(Base):
    """An objection to a song's row in a result, by whom and why; while it is open, `outcome` is null.

    `raised_key` and `resolved_key` are the API keys that did so, null where none was asked for.
    """

    __tablename__ = "disputes"
    __table_args__ = (
        within("outcome", DisputeOutcome),
        CheckConstraint("(outcome IS NULL) = (resolved_at IS NULL)", name="resolved"),
        Index(None, "tenant_id", "attribution_id", "id"),
        Index(
            "uq_disputes_open",
            *("attribution_id", "song_id"),
            unique=True,
            postgresql_where=text("outcome IS NULL"),
            sqlite_where=text("outcome IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    attribution_id: Mapped[str] = mapped_column(ForeignKey("attributions.id", ondelete="CASCADE"))
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id"), index=True)
    reason: Mapped[str] = mapped_column(Text)
    raised_by: Mapped[str] = mapped_column(String(200))
    raised_key: Mapped[str | None] = mapped_column(String(36))
    raised_at: Mapped[datetime] = mapped_column(default=utcnow)
    outcome: Mapped[str | None] = mapped_column(String(16))
    note: Mapped[str | None] = mapped_column(Text)
    resolved_by: Mapped[str | None] = mapped_column(String(200))
    resolved_key: Mapped[str | None] = mapped_column(String(36))
    resolved_at: Mapped[datetime | None]

    song: Mapped[Song] = relationship(lazy="raise")
