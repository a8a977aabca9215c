"""Songs and who holds rights in them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, event
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app import words
from app.db import Base, utcnow
from app.models.columns import new_id, owner, within
from app.words import Words


class TrainingPolicy(StrEnum):
    """What a rights-holder allows generative models to do with a song."""

    ALLOW = "allow"
    LIMIT = "limit"
    BLOCK = "block"


class Song(Base):
    """A catalogue recording; `key` is its name in training sets, unique within a tenant."""

    __tablename__ = "songs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        Index(None, "tenant_id", "id"),
        Index(None, "tenant_id", "isrc"),
        Index(None, "audio_key"),
        Index(None, "tenant_id", "artist_plain", "id"),
        Index("ix_songs_words", "words", postgresql_using="gin", info={"dialect": "postgresql"}).ddl_if("postgresql"),
        within("training_policy", TrainingPolicy),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
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
    """One holder's share in a song, 0 to 1, in one role; party, ipi and isni are as they were stated for this song."""

    __tablename__ = "rights"
    __table_args__ = (CheckConstraint("share >= 0 AND share <= 1", name="share"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    song_id: Mapped[str] = mapped_column(ForeignKey("songs.id", ondelete="CASCADE"), index=True)
    holder_id: Mapped[str] = mapped_column(ForeignKey("holders.id"), index=True)
    party: Mapped[str] = mapped_column(String(300))
    role: Mapped[str] = mapped_column(String(50))
    ipi: Mapped[str | None] = mapped_column(String(11))
    isni: Mapped[str | None] = mapped_column(String(16))
    share: Mapped[float]
