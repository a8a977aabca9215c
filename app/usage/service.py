"""Metering by month, and quotas: requests a minute, jobs a month. The database counts, so that all processes agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.db import now
from app.errors import NotFound, QuotaExhausted, TooManyRequests
from app.models import Quota, Tenant, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

MONTHS_SHOWN = 24


def month_of(moment: datetime) -> str:
    """The month (UTC) of an instant, as YYYY-MM."""
    return f"{moment.astimezone(UTC):%Y-%m}"


def meter(session: Session, tenant_id: str, *, jobs: int = 0, audio_s: float = 0.0, device_s: float = 0.0) -> int:
    """Add to a tenant's month; returns the jobs that it now has."""
    month, added = month_of(now(session)), {"jobs": jobs, "audio_s": audio_s, "device_s": device_s}
    grown: dict[str, Any] = {name: getattr(Usage, name) + value for name, value in added.items()}
    adding = update(Usage).where(Usage.tenant_id == tenant_id, Usage.month == month).values(grown).returning(Usage.jobs)
    total = session.scalar(adding)
    if total is None:
        try:
            with session.begin_nested():
                session.execute(insert(Usage).values(tenant_id=tenant_id, month=month, **added))
            total = jobs
        except IntegrityError:  # another transaction began the month meanwhile
            total = session.scalar(adding)
    return int(total or 0)


def count_jobs(session: Session, tenant_id: str, jobs: int) -> None:
    """Count new jobs; raises QuotaExhausted where the month does not allow them, and then nothing may be committed."""
    total = meter(session, tenant_id, jobs=jobs)
    allowed = session.scalar(select(Quota.jobs_per_month).where(Quota.tenant_id == tenant_id))
    if allowed is not None and total > allowed:
        wait = _next_month(now(session)) - now(session)
        raise QuotaExhausted(f"{allowed} jobs a month are allowed", retry_after_s=wait.total_seconds())


def limited(session: Session, tenant_id: str) -> bool:
    """Whether a tenant's requests are to be counted at all."""
    return session.scalar(select(Quota.requests_per_minute).where(Quota.tenant_id == tenant_id)) is not None


def count_request(session: Session, tenant_id: str) -> None:
    """Count one request in the present minute; raises TooManyRequests beyond the quota, and then nothing is counted."""
    minute = now(session).astimezone(UTC).replace(second=0, microsecond=0)
    counted = (
        update(Quota)
        .where(Quota.tenant_id == tenant_id, Quota.requests_per_minute.is_not(None))
        .values(minute=minute, requests=case((Quota.minute == minute, Quota.requests + 1), else_=1))
        .returning(Quota.requests, Quota.requests_per_minute)
    )
    found = session.execute(counted).one_or_none()
    if found is not None and found.requests > found.requests_per_minute:
        wait = minute + timedelta(minutes=1) - now(session)
        raise TooManyRequests(
            f"{found.requests_per_minute} requests a minute are allowed", retry_after_s=wait.total_seconds()
        )


def allow(
    session: Session, *, tenant_id: str, requests_per_minute: int | None = None, jobs_per_month: int | None = None
) -> Quota:
    """Set a tenant's quotas, None meaning no limit; raises NotFound."""
    if session.get(Tenant, tenant_id) is None:
        raise NotFound(f"there is no tenant {tenant_id}")
    quota = session.get(Quota, tenant_id)
    if quota is None:
        quota = Quota(tenant_id=tenant_id, requests=0)
        session.add(quota)
    quota.requests_per_minute, quota.jobs_per_month = requests_per_minute, jobs_per_month
    return quota


def months(session: Session, *, tenant_id: str) -> Sequence[Usage]:
    """A tenant's latest months in which it used anything, newest first."""
    newest = select(Usage).where(Usage.tenant_id == tenant_id).order_by(Usage.month.desc())
    return session.scalars(newest.limit(MONTHS_SHOWN)).all()


def quota(session: Session, *, tenant_id: str) -> Quota | None:
    """A tenant's quotas, None where none were ever set."""
    return session.get(Quota, tenant_id)


def _next_month(moment: datetime) -> datetime:
    first = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)
