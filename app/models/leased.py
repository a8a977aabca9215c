"""What rows have in common that workers hold by lease, so that one mechanism serves all of them (`app/leasing.py`)."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  (SQLAlchemy reads it)

from sqlalchemy import CheckConstraint, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.models.columns import request_id


class Leased:
    """Work that a worker holds by `lease_token` until `lease_until`; its doorbell is rung at `next_ring_at`."""

    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None] = mapped_column(String(36))
    lease_until: Mapped[datetime | None]
    worker_id: Mapped[str | None] = mapped_column(String(36))
    next_ring_at: Mapped[datetime | None]
    rings: Mapped[int] = mapped_column(default=0)


class Job(Leased):
    """Work that a caller asked for: it can be canceled, waits until `not_before`, lost its worker `lapses` times."""

    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    not_before: Mapped[datetime | None]
    lapses: Mapped[int] = mapped_column(default=0, server_default="0")
    request_id: Mapped[str | None] = request_id()


def held_while_running() -> CheckConstraint:
    """Hold a table to leases that are there exactly while the work runs."""
    return CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="lease")
