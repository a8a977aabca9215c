"""What the interface shows of the audit log."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.models import AuditOutcome

_ENTRY: dict[str, Any] = {
    "id": "01980000-0000-7000-8000-000000000001",
    "created_at": "2026-01-02T03:04:05Z",
    "actor": "key",
    "key_id": "01980000-0000-7000-8000-000000000002",
    "action": "createSong",
    "object_kind": "songs",
    "object_id": "01980000-0000-7000-8000-000000000003",
    "request_id": "01980000-0000-7000-8000-000000000004",
    "outcome": "done",
    "details": {"made": {"songs": 1}, "first": ["songs/01980000-0000-7000-8000-000000000003"]},
}


class AuditEntry(BaseModel):
    """One action: who, what, on which object, when, in which request, and whether it was done or not allowed."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _ENTRY})

    id: str
    created_at: datetime
    actor: str = Field(description="`key`, a rights-holder, a command with its user, the sweeper, or `this machine`.")
    key_id: str | None
    action: str = Field(description="The operation's id in this document, or the command.")
    object_kind: str | None
    object_id: str | None
    request_id: str | None
    outcome: AuditOutcome
    details: dict[str, Any] = Field(description="Rows made, by table; of a refusal, the problem's type.")


class AuditPage(BaseModel):
    """A part of the audit log, the newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_ENTRY], "next_cursor": None}})

    items: list[AuditEntry]
    next_cursor: str | None
