"""Events that a tenant hears of, its endpoints with their secrets, and what was delivered to them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, Json, utcnow
from app.models.columns import new_id, owner, within


class DeliveryStatus(StrEnum):
    """Where a delivery stands: to be tried (again), taken by the endpoint, or given up."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DisabledFor(StrEnum):
    """Why an endpoint gets nothing: its owner wished so, it answered 410, or it failed for days."""

    OWNER = "owner"
    GONE = "gone"
    FAILING = "failing"


class Event(Base):
    """Something that happened, written in the transaction in which it did; `id` is the webhook-id for good."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "tenant_id", "created_at", "id"), Index(None, "created_at"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    type: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class WebhookEndpoint(Base):
    """An address that a tenant wants to be told at; `events` are the types that it wants, none meaning all."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (within("disabled_for", DisabledFor), Index(None, "tenant_id", "id"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    url: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(String(300), default="")
    events: Mapped[list[str]] = mapped_column(Json)
    disabled_for: Mapped[str | None] = mapped_column(String(16))
    disabled_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)


class WebhookSecret(Base):
    """What an endpoint's deliveries are signed with; one that was rotated out signs beside the new one for a while."""

    __tablename__ = "webhook_secrets"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), index=True)
    secret: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime | None]


class WebhookDelivery(Base):
    """One event on its way to one endpoint; `next_at`: when it is due, or while `token` is held, when others may try.

    `tries` counts since it was last asked for; `attempts` has what each one met, the newest last.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        within("status", DeliveryStatus),
        UniqueConstraint("endpoint_id", "event_id"),
        Index(None, "status", "next_at"),
        Index(None, "event_id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    tenant_id: Mapped[str] = owner()
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(String(16), default=DeliveryStatus.PENDING)
    tries: Mapped[int] = mapped_column(default=0)
    token: Mapped[str | None] = mapped_column(String(36))
    next_at: Mapped[datetime | None]
    attempts: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    ended_at: Mapped[datetime | None]

    event: Mapped[Event] = relationship(lazy="raise")
    endpoint: Mapped[WebhookEndpoint] = relationship(lazy="raise")
