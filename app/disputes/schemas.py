"""What the disputes' routes take and answer."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.attributions.examples import ID, SONG
from app.attributions.influence_schemas import SongName
from app.attributions.schemas import WITHOUT_NUL
from app.models import Dispute as Row
from app.models import DisputeOutcome

_DISPUTE: dict[str, Any] = {
    "id": ID,
    "attribution_id": ID,
    "song": SONG,
    "reason": "The match is a drum loop from a sample library that both use.",
    "raised_by": "Ada at The Examples",
    "raised_at": "2026-01-05T09:00:00Z",
    "outcome": "upheld",
    "note": "The loop is in the library; the seconds that match hold nothing else.",
    "resolved_by": "Bo, repertoire",
    "resolved_at": "2026-01-07T15:30:00Z",
}
_NEW = {name: _DISPUTE[name] for name in ("reason",)} | {"song_id": ID, "by": "Ada at The Examples"}
_REVIEW = {"outcome": "upheld", "note": _DISPUTE["note"], "by": "Bo, repertoire"}

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000), WITHOUT_NUL]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), WITHOUT_NUL]


class NewDispute(BaseModel):
    """An objection to a song's row."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _NEW})

    song_id: Annotated[str, StringConstraints(max_length=36), WITHOUT_NUL]
    by: Name = Field(description="Who objects, in words.")
    reason: Words


class NewReview(BaseModel):
    """What a review of a dispute decided."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _REVIEW})

    outcome: DisputeOutcome
    by: Name = Field(description="Who decided, in words.")
    note: Words


class Dispute(BaseModel):
    """An objection to a song's row, and what a review made of it; `outcome` is null while it is open."""

    model_config = ConfigDict(json_schema_extra={"example": _DISPUTE})

    id: str
    attribution_id: str
    song: SongName
    reason: str
    raised_by: str
    raised_at: datetime
    outcome: DisputeOutcome | None
    note: str | None
    resolved_by: str | None
    resolved_at: datetime | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Return a dispute, its song being loaded, as the interface shows it."""
        plain = {name: getattr(row, name) for name in cls.model_fields if name != "song"}
        return cls(**plain, song=SongName.model_validate(row.song))


class DisputePage(BaseModel):
    """An attribution's disputes in the order in which they were raised."""

    items: list[Dispute]
    next_cursor: str | None
