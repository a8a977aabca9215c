"""What was answered to requests that carried an Idempotency-Key."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, utcnow
from app.models.columns import new_id, owner


class IdempotencyKey(Base):
    """A caller's key for one request: being carried out while `locked_until` lies ahead, answered once it has a status.

    `made_id` is the id of whatever the request creates, chosen before it begins, so that carrying it out again after
    a crash finds what is there instead of making it twice; `token` tells who carries it out.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "expires_at"),)

    tenant_id: Mapped[str] = owner(primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    made_id: Mapped[str] = mapped_column(String(36), default=new_id)
    token: Mapped[str] = mapped_column(String(36), default=new_id)
    locked_until: Mapped[datetime]
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
