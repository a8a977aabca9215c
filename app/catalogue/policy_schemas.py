"""What the routes of training policies and audits answer."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from app.attributions.examples import ID
from app.attributions.influence_schemas import SongName
from app.attributions.schemas import ModelName
from app.catalogue.policies import Audit
from app.models import TrainingPolicy

_POLICY: dict[str, Any] = {
    "id": ID,
    "policy": "block",
    "valid_from": "2026-06-01T00:00:00Z",
    "valid_to": None,
    "created_at": "2026-05-02T03:04:05Z",
}
_SONG: dict[str, Any] = {
    "song": {"id": ID, "key": "k-1", "title": "Night Drive", "artist": "The Examples", "isrc": "USSKG1912345"},
    "policy": "block",
    "valid_from": "2026-06-01T00:00:00Z",
    "valid_to": None,
}


class PolicyStatement(BaseModel):
    """That a policy holds from an instant until another; where statements overlap, the last one made holds."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _POLICY})

    id: str
    policy: TrainingPolicy
    valid_from: datetime | None = Field(description="Null: it always did.")
    valid_to: datetime | None = Field(description="Null: without end.")
    created_at: datetime


class PolicyPage(BaseModel):
    """All that was stated of a song's training policy, the newest first."""

    items: list[PolicyStatement]
    next_cursor: str | None


class AuditedSong(BaseModel):
    """A song of the training set that was not allowed without limits, and the statement that held; null: none did."""

    model_config = ConfigDict(json_schema_extra={"example": _SONG})

    song: SongName
    policy: TrainingPolicy | None
    valid_from: datetime | None
    valid_to: datetime | None


class ModelAudit(BaseModel):
    """What a model was trained on without permission: songs that were blocked, and songs of which nothing was stated.

    Songs that were allowed within limits are listed too; whether the limits were kept is not known here.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": {"id": ID, "name": "starter"},
                "at": "2026-07-01T00:00:00Z",
                "songs": 48,
                "blocked": 1,
                "limited": 0,
                "unstated": 0,
                "without_permission": 1,
                "items": [_SONG],
                "next_cursor": None,
            }
        }
    )

    model: ModelName
    at: datetime = Field(description="When it was trained, as its index says, else when it was registered.")
    songs: int
    blocked: int
    limited: int
    unstated: int
    without_permission: int
    items: list[AuditedSong]
    next_cursor: str | None

    @classmethod
    def of(cls, audit: Audit, rows: Iterable[Row[Any]], next_cursor: str | None) -> Self:
        """Return an audit with some of its songs as the interface shows it."""
        names = ("songs", "blocked", "limited", "unstated", "without_permission")
        return cls(
            model=ModelName.model_validate(audit.model),
            at=audit.at,
            items=[_audited(row) for row in rows],
            next_cursor=next_cursor,
            **{name: getattr(audit, name) for name in names},
        )


def _audited(row: Row[Any]) -> AuditedSong:
    song = SongName(id=row.id, key=row.key, title=row.title, artist=row.artist, isrc=row.isrc)
    return AuditedSong(song=song, policy=row.policy, valid_from=row.valid_from, valid_to=row.valid_to)
