"""Closed months: the tracks that count in them, what each song has in them, and the lines of each holder.

Amounts are whole numbers, 10¹² of which are one track. Rows are written when a month is closed and never change: what
turns out otherwise is written as another row of a later closing, with the `month` that it is about.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, utcnow
from app.models.columns import new_id, owner, within


class Side(StrEnum):
    """What a right is in: a recording (ISRC), or the work that it is a recording of (ISWC)."""

    RECORDING = "recording"
    WORK = "work"


def _closing() -> Mapped[str]:
    return mapped_column(ForeignKey("closings.id", ondelete="CASCADE"), primary_key=True)


class Closing(Base):
    """A month (UTC, as YYYY-MM) of a tenant that is closed."""

    __tablename__ = "closings"
    __table_args__ = (UniqueConstraint("tenant_id", "month"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    month: Mapped[str] = mapped_column(String(7))
    closed_at: Mapped[datetime] = mapped_column(default=utcnow)


class ClosingTotal(Base):
    """What a closing adds up to for its own month, and for each earlier one that it corrects.

    tracks: that count; attributed: to songs; recordings, works: to holders of rights in the one and in the other.
    """

    __tablename__ = "closing_totals"

    closing_id: Mapped[str] = _closing()
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    tenant_id: Mapped[str] = owner()
    tracks: Mapped[int] = mapped_column(BigInteger)
    attributed: Mapped[int] = mapped_column(BigInteger)
    recordings: Mapped[int] = mapped_column(BigInteger)
    works: Mapped[int] = mapped_column(BigInteger)


class StatedTrack(Base):
    """A track that was counted, so that it never is again; it outlives the attribution, to which it has no link."""

    __tablename__ = "stated_tracks"
    __table_args__ = (Index(None, "closing_id", "month"), Index(None, "tenant_id"))

    attribution_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant_id: Mapped[str] = owner()
    closing_id: Mapped[str] = mapped_column(ForeignKey("closings.id", ondelete="CASCADE"))
    month: Mapped[str] = mapped_column(String(7))


class StatedDispute(Base):
    """A song's row in a track that an upheld dispute took out, so that it is never taken out again."""

    __tablename__ = "stated_disputes"

    attribution_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    song_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant_id: Mapped[str] = owner()
    closing_id: Mapped[str] = mapped_column(ForeignKey("closings.id", ondelete="CASCADE"), index=True)


class StatedSong(Base):
    """What a closing adds to a song's tracks and amount in a month, or takes away."""

    __tablename__ = "stated_songs"
    __table_args__ = (Index(None, "tenant_id", "song_id", "month"),)

    closing_id: Mapped[str] = _closing()
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    song_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant_id: Mapped[str] = owner()
    tracks: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int] = mapped_column(BigInteger)


class Statement(Base):
    """What one holder has in one closing; name and numbers are as they were then."""

    __tablename__ = "statements"
    __table_args__ = (
        UniqueConstraint("closing_id", "holder_id"),
        Index(None, "tenant_id", "month", "id"),
        Index(None, "tenant_id", "holder_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    closing_id: Mapped[str] = mapped_column(ForeignKey("closings.id", ondelete="CASCADE"))
    month: Mapped[str] = mapped_column(String(7))
    holder_id: Mapped[str] = mapped_column(ForeignKey("holders.id"), index=True)
    name: Mapped[str] = mapped_column(String(300))
    ipi: Mapped[str | None] = mapped_column(String(11))
    isni: Mapped[str | None] = mapped_column(String(16))
    recordings: Mapped[int] = mapped_column(BigInteger)
    works: Mapped[int] = mapped_column(BigInteger)
    lines: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class StatementLine(Base):
    """A holder's amount from one song in one role; with an earlier `month` than its closing's it corrects that one.

    parts: of the right, 10⁹ of which are the whole, at the time of closing; tracks: in which the song was found, or how
    many more or fewer than was stated.
    """

    __tablename__ = "statement_lines"
    __table_args__ = (
        within("side", Side),
        Index(None, "tenant_id", "song_id", "month"),
    )

    closing_id: Mapped[str] = _closing()
    holder_id: Mapped[str] = mapped_column(ForeignKey("holders.id"), primary_key=True, index=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = owner()
    month: Mapped[str] = mapped_column(String(7))
    song_id: Mapped[str] = mapped_column(String(36))
    side: Mapped[str] = mapped_column(String(16))
    role: Mapped[str] = mapped_column(String(50))
    isrc: Mapped[str | None] = mapped_column(String(12))
    iswc: Mapped[str | None] = mapped_column(String(11))
    title: Mapped[str] = mapped_column(String(500))
    artist: Mapped[str] = mapped_column(String(500))
    parts: Mapped[int] = mapped_column(BigInteger)
    tracks: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int] = mapped_column(BigInteger)
