"""What is shown of a tenant's use and quotas."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

USAGE: dict[str, Any] = {
    "quota": {"requests_per_minute": 600, "jobs_per_month": 100_000},
    "months": [{"month": "2026-01", "jobs": 1200, "audio_s": 36_000.0, "device_s": 5400.0}],
}


class MonthOfUse(BaseModel):
    """What a tenant used in one month (UTC)."""

    model_config = ConfigDict(from_attributes=True)

    month: str = Field(description="YYYY-MM.")
    jobs: int = Field(description="Attributions that were accepted, whatever became of them.")
    audio_s: float = Field(description="Seconds of audio in those that succeeded.")
    device_s: float = Field(description="Seconds that attempts, failed ones too, held a worker and its GPU or CPU.")


class Quotas(BaseModel):
    """What a tenant may use; null: no limit."""

    model_config = ConfigDict(from_attributes=True)

    requests_per_minute: int | None = None
    jobs_per_month: int | None = None


class TenantUsage(BaseModel):
    """What the caller may use, and used, the newest month first."""

    model_config = ConfigDict(json_schema_extra={"example": USAGE})

    quota: Quotas
    months: list[MonthOfUse]
