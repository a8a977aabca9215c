"""What the catalogue's routes take and answer: songs with their rights."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, computed_field, model_validator
from sqlalchemy import Row

from app.attributions.influence_schemas import Check, Match, influence_facts
from app.attributions.schemas import WITHOUT_NUL, ModelName
from app.catalogue import identifiers
from app.catalogue.examples import FACTS, HISTORY_ROW, REPORT, SONG
from app.catalogue.rights import Right, Rights
from app.models import Method, TrainingPolicy

Bucket = Literal["day", "week", "month"]

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), WITHOUT_NUL]
Licence = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), WITHOUT_NUL]
Key = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), WITHOUT_NUL]
Isrc = Annotated[str, StringConstraints(max_length=40), AfterValidator(identifiers.isrc)]
Iswc = Annotated[str, StringConstraints(max_length=40), AfterValidator(identifiers.iswc)]
Upc = Annotated[str, StringConstraints(max_length=40), AfterValidator(identifiers.upc)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


Instant = Annotated[datetime, AfterValidator(lambda moment: moment if moment.tzinfo else moment.replace(tzinfo=UTC))]
POLICY_FROM = Field(None, description="From when `training_policy` holds; null: it always did. Left out: from now on.")
POLICY_TO = Field(None, description="Until when it holds; null: without end.")


def _dated(facts: "SongFacts | SongChanges") -> None:
    """Refuse dates that belong to no policy, or end before they begin."""
    if facts.model_fields_set & {"policy_from", "policy_to"} and "training_policy" not in facts.model_fields_set:
        raise ValueError("policy_from and policy_to need a training_policy")
    if facts.policy_from and facts.policy_to and facts.policy_from >= facts.policy_to:
        raise ValueError("policy_to must lie after policy_from")


class SongFacts(BaseModel):
    """The facts that a new song states; `key` is the caller's own name for it, unique in its catalogue."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": FACTS})

    key: Key | None = Field(None, description="Left out, the song's id serves.")
    title: Name
    artist: Name
    isrc: Isrc | None = None
    iswc: Iswc | None = None
    upc: Upc | None = None
    duration_s: Seconds | None = None
    licence: Licence = ""
    training_policy: TrainingPolicy = TrainingPolicy.ALLOW
    policy_from: Instant | None = POLICY_FROM
    policy_to: Instant | None = POLICY_TO
    rights: Rights = []

    @model_validator(mode="after")
    def _policy(self) -> Self:
        _dated(self)
        return self


class SongChanges(BaseModel):
    """The facts to change; what is left out stays, null clears what may be empty, `rights` replaces all of them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"isrc": "USSKG1912345", "training_policy": "block"}}
    )

    title: Name | None = None
    artist: Name | None = None
    isrc: Isrc | None = None
    iswc: Iswc | None = None
    upc: Upc | None = None
    duration_s: Seconds | None = None
    licence: Licence | None = None
    training_policy: TrainingPolicy | None = None
    policy_from: Instant | None = POLICY_FROM
    policy_to: Instant | None = POLICY_TO
    rights: Rights | None = None

    @model_validator(mode="after")
    def _policy(self) -> Self:
        _dated(self)
        return self

    @model_validator(mode="after")
    def _required_stay(self) -> Self:
        for name in ("title", "artist", "licence", "training_policy", "rights"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class Song(BaseModel):
    """A catalogue recording with its rights."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": SONG})

    id: str
    key: str
    title: str
    artist: str
    isrc: str | None
    iswc: str | None
    upc: str | None
    duration_s: float | None
    licence: str
    training_policy: TrainingPolicy = Field(
        description="What was last stated to hold at once; `/policies` has the history."
    )
    audio_sha256: str | None = Field(description="SHA-256 of the stored recording; null while none is stored.")
    created_at: datetime
    updated_at: datetime
    rights: list[Right]

    @computed_field(description="What is doubtful but accepted.")
    def warnings(self) -> list[str]:
        """List what is doubtful but accepted."""
        doubt = identifiers.isrc_warning(self.isrc) if self.isrc else None
        return [doubt] if doubt else []


class RowError(BaseModel):
    """Why one line of an import was left out (or, as a warning, what is doubtful in it)."""

    line: int = Field(description="Line of the file, the header being 1.")
    column: int | None = Field(None, description="Column of the file, the first being 1.")
    field: str | None
    message: str


class ImportReport(BaseModel):
    """What an import did, or under `dry_run` would do; lines with errors are left out, all others are stored."""

    model_config = ConfigDict(json_schema_extra={"example": REPORT})

    dry_run: bool
    rows: int
    created: int
    updated: int
    unchanged: int
    errors: list[RowError]
    warnings: list[RowError]
    ignored_columns: list[str]


class SongPage(BaseModel):
    """Songs in the order of their creation."""

    items: list[Song]
    next_cursor: str | None


class TrackName(BaseModel):
    """An attribution, in short."""

    id: str
    external_id: str | None
    filename: str | None
    created_at: datetime


class HistoryRow(BaseModel):
    """One track that the song was found in."""

    model_config = ConfigDict(json_schema_extra={"example": HISTORY_ROW})

    at: datetime = Field(description="When the attribution ended.")
    attribution: TrackName
    model: ModelName
    method: Method
    counted: bool = Field(description="Whether it is summed: a track that was sent twice counts once for each model.")
    rank: int
    score: float = Field(description="Raw; comparable within one model and index.")
    score_low: float | None
    score_high: float | None
    effect: float | None
    share: float
    share_low: float | None
    share_high: float | None
    background_percentile: float
    check: Check | None
    matches: list[Match]


class HistoryPage(BaseModel):
    """The tracks that a song was found in, the newest first."""

    items: list[HistoryRow]
    next_cursor: str | None

    @classmethod
    def of(cls, rows: Iterable[Row[Any]], next_cursor: str | None) -> Self:
        """Return rows of `app.catalogue.history.page` as the interface shows them, checked in one go."""
        return cls.model_validate({"items": [_history_row(row) for row in rows], "next_cursor": next_cursor})


def _history_row(row: Row[Any]) -> dict[str, Any]:
    track = {
        "id": row.attribution_id,
        "external_id": row.external_id,
        "filename": row.filename,
        "created_at": row.created_at,
    }
    model = {"id": row.model_id, "name": row.model_name}
    how = {"method": row.method, "counted": row.counted}
    return {"at": row.at, "attribution": track, "model": model, **how, **influence_facts(row)}


class HistoryPoint(BaseModel):
    """One bucket of a song's history; a track that was sent twice counts once for each model."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {"start": "2026-01-01", "attributions": 7, "share_sum": 0.9, "share_max": 0.3, "best_rank": 1}
        },
    )

    start: date = Field(description="Its first day, in UTC; weeks start on Monday.")
    attributions: int = Field(description="Tracks that the song was found in.")
    share_sum: float
    share_max: float
    best_rank: int


class HistorySeries(BaseModel):
    """A song's history over time, oldest first; buckets without a track are left out."""

    song_id: str
    bucket: Bucket
    points: list[HistoryPoint]
