"""What the attributions' routes answer of the songs in a result."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row as SelectedRow

from app.attributions.examples import ID, RESULT, ROW
from app.attributions.schemas import Result
from app.models import Influence, Status


class SongName(BaseModel):
    """A song, in short."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    key: str
    title: str
    artist: str
    isrc: str | None


class Match(BaseModel):
    """A segment of the song that lies behind the track, and where in both it starts."""

    segment: int
    song_start_s: float
    track_start_s: float
    seconds: float
    score: float


class Check(BaseModel):
    """Finite-step unlearning of the song's first match, in units of that match's score, which both should resemble."""

    mirrored: float = Field(description="How the song's segment changes when the model forgets the track.")
    forward: float | None = Field(
        description="How the track changes when the model forgets the segment; null: not run."
    )


class InfluenceRow(BaseModel):
    """One song's part in a track."""

    model_config = ConfigDict(json_schema_extra={"example": ROW})

    rank: int
    song: SongName
    score: float = Field(description="Raw; comparable within one model and index.")
    score_low: float | None = Field(description="Begin of the 90 % interval over noise draws.")
    score_high: float | None
    effect: float | None = Field(
        description="Predicted rise of the track's denoising loss without the song; null without a calibration."
    )
    share: float = Field(description="Its part of the whole: all shares and `unattributed` sum to 1.")
    share_low: float | None = Field(description="Begin of the 90 % interval over noise draws and the scale of effects.")
    share_high: float | None
    background_percentile: float = Field(description="Per cent of unrelated tracks that score lower for this song.")
    check: Check | None = Field(description="What a real step of unlearning did, where one was made.")
    matches: list[Match]

    @classmethod
    def of(cls, row: Influence) -> Self:
        """Return an influence, its song being loaded, as the interface shows it."""
        return cls(song=SongName.model_validate(row.song), **influence_facts(row))


class InfluencePage(BaseModel):
    """A part of a result's ranking, best first, with what is needed to judge it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "attribution_id": ID,
                "status": "succeeded",
                "result": RESULT,
                "items": [ROW],
                "next_cursor": None,
            }
        }
    )

    attribution_id: str
    status: Status
    result: Result | None
    items: list[InfluenceRow]
    next_cursor: str | None


def influence_facts(row: Influence | SelectedRow[Any]) -> dict[str, Any]:
    """Return what is shown of an influence, an object or its columns, wherever it is shown."""
    mirrored = row.check_mirrored
    return {
        "rank": row.rank,
        "score": row.score,
        "score_low": row.score_low,
        "score_high": row.score_high,
        "effect": row.effect,
        "share": row.share,
        "share_low": row.share_low,
        "share_high": row.share_high,
        "background_percentile": row.percentile,
        "check": None if mirrored is None else {"mirrored": mirrored, "forward": row.check_forward},
        "matches": row.matches,
    }
