"""Who owns rows, what they may use, and what they used."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, utcnow

DEFAULT_TENANT = "default"


class Tenant(Base):
    """The owner of every row; uploads are erased `audio_days` after their jobs' ends (None: kept)."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    turn: Mapped[int] = mapped_column(default=0, server_default="0")
    audio_days: Mapped[int | None]
    shows_external_ids: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Quota(Base):
    """What a tenant may use, None meaning no limit; and the requests that it made in the minute of its last one."""

    __tablename__ = "quotas"

    tenant_id: Mapped[str] = mapped_column(String(64), ForeignKey("tenants.id"), primary_key=True)
    requests_per_minute: Mapped[int | None]
    jobs_per_month: Mapped[int | None]
    minute: Mapped[datetime | None]
    requests: Mapped[int] = mapped_column(default=0)


class Usage(Base):
    """What a tenant used in one month (UTC, as YYYY-MM)."""

    __tablename__ = "usage"

    tenant_id: Mapped[str] = mapped_column(String(64), ForeignKey("tenants.id"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    jobs: Mapped[int] = mapped_column(default=0)
    audio_s: Mapped[float] = mapped_column(default=0.0)
    device_s: Mapped[float] = mapped_column(default=0.0)
