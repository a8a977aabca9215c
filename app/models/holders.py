"""Who holds rights: one row a party, whatever songs it holds rights in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, utcnow
from app.models.columns import new_id, owner
from app.words import Words

NAMELESS = "ipi IS NULL AND isni IS NULL"


class Holder(Base):
    """A party that holds rights, known by its IPI, by its ISNI, else by its folded name alone.

    name: as it was first stated; name_plain: that name folded, which identifies only who has no number.
    """

    __tablename__ = "holders"
    __table_args__ = (
        Index("uq_holders_tenant_id_ipi", "tenant_id", "ipi", unique=True),
        Index("uq_holders_tenant_id_isni", "tenant_id", "isni", unique=True),
        Index(
            "uq_holders_name",
            *("tenant_id", "name_plain"),
            unique=True,
            postgresql_where=text(NAMELESS),
            sqlite_where=text(NAMELESS),
        ),
        Index(None, "tenant_id", "id"),
        Index("ix_holders_words", "words", postgresql_using="gin", info={"dialect": "postgresql"}).ddl_if("postgresql"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    name: Mapped[str] = mapped_column(String(300))
    name_plain: Mapped[str] = mapped_column(Text, deferred=True)
    words: Mapped[list[str]] = mapped_column(Words, deferred=True)
    ipi: Mapped[str | None] = mapped_column(String(11))
    isni: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
