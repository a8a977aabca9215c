"""What the routes of rights-holders answer."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_HOLDER: dict[str, Any] = {
    "id": "01980000-0000-7000-8000-000000000003",
    "name": "Ada Lovelace",
    "ipi": "00014107338",
    "isni": "000000012281955X",
    "created_at": "2026-01-02T03:04:05Z",
}


class Holder(BaseModel):
    """A party that holds rights in songs of the catalogue."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _HOLDER})

    id: str
    name: str = Field(description="As it was first stated.")
    ipi: str | None
    isni: str | None
    created_at: datetime


class HolderPage(BaseModel):
    """Rights-holders in the order in which they came."""

    items: list[Holder]
    next_cursor: str | None
