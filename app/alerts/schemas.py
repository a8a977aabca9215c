"""What the routes of alerts take and answer."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.alerts.service import Wanted
from app.attributions.schemas import WITHOUT_NUL

ID = "01980000-0000-7000-8000-000000000001"
ALERT: dict[str, Any] = {
    "id": ID,
    "song_id": ID,
    "holder_id": None,
    "artist": None,
    "model": None,
    "threshold": 1.5,
    "window_days": 30,
    "above": False,
    "crossed_at": None,
    "created_at": "2026-01-02T03:04:05Z",
}
Text = Annotated[str, StringConstraints(min_length=1, max_length=500), WITHOUT_NUL]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), WITHOUT_NUL]


class NewAlert(BaseModel):
    """A threshold for a song, or for all songs of a rights-holder or of an artist."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"song_id": ID, "threshold": 0.2}})

    song_id: Name | None = None
    holder_id: Name | None = None
    artist: Text | None = Field(None, description="An artist's whole name; case and accents do not matter.")
    model: Name | None = Field(None, description="Only what was found with the model of this name.")
    threshold: float = Field(gt=0, allow_inf_nan=False, description="A share, or with `window_days` a sum of shares.")
    window_days: int | None = Field(
        None, ge=1, le=366, description="Left out: each track by itself. Given: the sum over so many days."
    )

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if sum(each is not None for each in (self.song_id, self.holder_id, self.artist)) != 1:
            raise ValueError("give exactly one of song_id, holder_id and artist")
        if self.window_days is None and self.threshold > 1:
            raise ValueError("a share is never above 1; with window_days a sum can be")
        return self

    def wanted(self) -> Wanted:
        """Return what to be told of."""
        return Wanted(**self.model_dump())


class Alert(BaseModel):
    """A threshold, and when it was passed last."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": ALERT})

    id: str
    song_id: str | None
    holder_id: str | None
    artist: str | None = Field(description="Folded: without case and accents.")
    model: str | None
    threshold: float
    window_days: int | None
    above: bool = Field(description="Whether the sum was above when last looked at; without a window always false.")
    crossed_at: datetime | None
    created_at: datetime


class AlertPage(BaseModel):
    """Alerts in the order of their making."""

    items: list[Alert]
    next_cursor: str | None
