"""Who may call, the keys of tenants and of rights-holders, and what they did."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Json, utcnow
from app.models.columns import new_id, owner, within


class ApiKey(Base):
    """A key as it is remembered: never the secret, only its SHA-256. With `holder_id`, a rights-holder's."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "tenant_id", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    holder_id: Mapped[str | None] = mapped_column(ForeignKey("holders.id"))
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class AuditOutcome(StrEnum):
    """Whether an action was done or not allowed."""

    DONE = "done"
    DENIED = "denied"


class AuditEntry(Base):
    """One action: who did it, with which key, to which object, in which request. Never changed, never deleted."""

    __tablename__ = "audit"
    __table_args__ = (
        within("outcome", AuditOutcome),
        Index(None, "tenant_id", "id"),
        Index(None, "tenant_id", "object_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    key_id: Mapped[str | None] = mapped_column(String(36))
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(100))
    object_kind: Mapped[str | None] = mapped_column(String(64))
    object_id: Mapped[str | None] = mapped_column(String(200))
    request_id: Mapped[str | None] = mapped_column(String(128))
    outcome: Mapped[str] = mapped_column(String(16))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
