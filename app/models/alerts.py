"""What a tenant wants to be told of a song's influence."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, utcnow
from app.models.columns import new_id, owner

ONE_SUBJECT = (
    "CASE WHEN song_id IS NULL THEN 0 ELSE 1 END + CASE WHEN holder_id IS NULL THEN 0 ELSE 1 END"
    " + CASE WHEN artist IS NULL THEN 0 ELSE 1 END = 1"
)


class Alert(Base):
    """A threshold for one song, or for all songs of a rights-holder or an artist.

    Without `window_days` each counted share is measured by itself; with them, the sum of those days, and `above` says
    whether it was above the threshold when last looked at. `artist`: folded. `model`: a name, None for any.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        CheckConstraint("threshold > 0", name="threshold"),
        CheckConstraint(ONE_SUBJECT, name="subject"),
        Index(None, "tenant_id", "id"),
        Index(None, "next_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    song_id: Mapped[str | None] = mapped_column(String(36))
    holder_id: Mapped[str | None] = mapped_column(String(36))
    artist: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(String(200))
    threshold: Mapped[float]
    window_days: Mapped[int | None]
    above: Mapped[bool] = mapped_column(default=False, server_default=false())
    next_at: Mapped[datetime | None]
    crossed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
