"""Public keys that documents were signed with. They are the service's, not a tenant's, and are never removed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, utcnow


class ReportKey(Base):
    """An Ed25519 public key, as 64 hexadecimal digits; `id` is the beginning of its SHA-256."""

    __tablename__ = "report_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    public_key: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
