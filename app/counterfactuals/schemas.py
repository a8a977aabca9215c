"""What the counterfactuals' routes take and answer."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.attributions.examples import ID, SONG
from app.attributions.influence_schemas import SongName
from app.attributions.schemas import WITHOUT_NUL, JobError, Seed, job_error
from app.models import Counterfactual as Row
from app.models import ForgettingStage, Matched, Status, Take

_CHANGE = {"mean": 0.0573, "low": 0.0521, "high": 0.0625}
_FORGOTTEN: dict[str, Any] = {
    "change": _CHANGE,
    "own": {"mean": 0.17, "low": 0.15, "high": 0.19},
    "apart": {"spectral_db": 6.1, "waveform": 1.31},
}
_CONTROL: dict[str, Any] = {
    "change": {"mean": 0.0059, "low": 0.0049, "high": 0.0069},
    "own": {"mean": 0.18, "low": 0.16, "high": 0.2},
    "apart": {"spectral_db": 1.9, "waveform": 0.62},
}
_RECORDING = {
    "url": f"/v1/counterfactuals/{ID}/audio/baseline",
    "sha256": "9f" * 32,
    "bytes": 301_224,
    "seconds": 10.24,
}
_RESULT: dict[str, Any] = {
    "measure": "loss",
    "loss": 0.48,
    "song": _FORGOTTEN,
    "control": _CONTROL,
    "difference": {"mean": 0.0514, "low": 0.0463, "high": 0.0565},
    "likeness": {"spectral_db": 0.1, "waveform": 0.003},
    "audio": {
        take: _RECORDING | {"url": f"/v1/counterfactuals/{ID}/audio/{take}"}
        for take in ("baseline", "forgotten", "control")
    },
    "timings": {"decoding": 0.1, "encoding": 0.2, "forgetting": 9.1, "measuring": 4.2, "generating": 6.3},
    "details": {"step": 0.01, "draws": 64},
}
_COUNTERFACTUAL: dict[str, Any] = {
    "id": ID,
    "attribution_id": ID,
    "status": "succeeded",
    "stage": None,
    "progress": 1.0,
    "song": SONG,
    "control": {"song": SONG | {"key": "k-2", "title": "Day Drive"}, "matched_by": "artist"},
    "prompt": "slow piano, minor key",
    "seed": 5000,
    "attempts": 1,
    "cancel_requested": False,
    "created_at": "2026-01-05T09:00:00Z",
    "started_at": "2026-01-05T09:00:01Z",
    "finished_at": "2026-01-05T09:00:21Z",
    "expires_at": "2026-01-06T09:00:00Z",
    "error": None,
    "result": _RESULT,
}


class NewCounterfactual(BaseModel):
    """Which song the model shall forget, and what the track is made again from."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"song_id": ID, "prompt": "slow piano, minor key", "seed": 5000}},
    )

    song_id: Annotated[str, StringConstraints(max_length=36), WITHOUT_NUL]
    prompt: Annotated[str, StringConstraints(max_length=4000), WITHOUT_NUL] | None = Field(
        None, description="Left out: the attribution's prompt."
    )
    seed: Seed | None = Field(None, description="Left out: the attribution's seed, or 0 where that is not known.")


class Shift(BaseModel):
    """How far a measure moved, with the 90 % interval over noise draws."""

    mean: float
    low: float
    high: float


class Apart(BaseModel):
    """How far two recordings are apart."""

    spectral_db: float = Field(description="Mean distance of their log spectra in dB: what an ear could tell.")
    waveform: float = Field(
        description="Norm of the difference of their samples, relative to the first. Phases count: over 1 is common."
    )


class Forgotten(BaseModel):
    """What forgetting one song did."""

    change: Shift = Field(description="Rise of the track's loss: positive where the model knows the track less.")
    own: Shift = Field(description="Rise of the forgotten song's own loss: how far it was forgotten.")
    apart: Apart | None = Field(description="The track made again from the baseline; null: the baseline is silent.")


class Recording(BaseModel):
    """A track made again, as FLAC."""

    url: str
    sha256: str
    bytes: int
    seconds: float


class Control(BaseModel):
    """The song that is forgotten for comparison, drawn at random."""

    song: SongName
    matched_by: Matched = Field(description="Of the same artist, or of about the same length in training.")


class Result(BaseModel):
    """What came of it. Any step away from the trained weights changes something: compare with the control."""

    measure: str = Field(description="What is measured of the track.")
    loss: float = Field(description="The track's loss before anything was forgotten.")
    song: Forgotten
    control: Forgotten | None = Field(description="null: the training set holds no other song.")
    difference: Shift | None = Field(description="The song's change less the control's, draw by draw.")
    likeness: Apart | None = Field(
        description="The baseline from the track: near 0 where prompt and seed are those that the track was made from."
    )
    audio: dict[Take, Recording] = Field(
        description="Made under one prompt and seed: `baseline` with nothing forgotten, `forgotten` without the song, "
        "`control` without the control song."
    )
    timings: dict[str, float] = Field(description="Seconds per stage.")
    details: dict[str, Any]

    @classmethod
    def of(cls, row: Row) -> Self | None:
        """Return the result of a counterfactual, None unless it has succeeded."""
        if row.status != Status.SUCCEEDED:
            return None
        details = dict(row.result["details"])
        audio = {
            take: Recording(url=f"/v1/counterfactuals/{row.id}/audio/{take}", **_without_key(kept))
            for take, kept in row.audio.items()
        }
        return cls.model_validate(row.result | {"measure": details.pop("measure"), "details": details, "audio": audio})


class Counterfactual(BaseModel):
    """A track made again by a model that forgot one song, with its state and, once it has succeeded, its result."""

    model_config = ConfigDict(json_schema_extra={"example": _COUNTERFACTUAL})

    id: str
    attribution_id: str
    status: Status
    stage: ForgettingStage | None = Field(description="What a worker does, or last did.")
    progress: float
    song: SongName = Field(description="The song that is forgotten.")
    control: Control | None = Field(description="null: the training set holds no other song.")
    prompt: str = Field(description="What the track is made again from.")
    seed: int
    attempts: int
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime = Field(description="When it expires, if no worker has taken it up by then.")
    error: JobError | None
    result: Result | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Return a counterfactual, its songs being loaded, as the interface shows it."""
        made = {"song", "control", "error", "result"}
        plain = {name: getattr(row, name) for name in cls.model_fields if name not in made}
        return cls(
            **plain,
            song=SongName.model_validate(row.song),
            control=_control(row),
            error=job_error(row),
            result=Result.of(row),
        )


class CounterfactualPage(BaseModel):
    """An attribution's counterfactuals, the newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_COUNTERFACTUAL], "next_cursor": None}})

    items: list[Counterfactual]
    next_cursor: str | None


def _control(row: Row) -> Control | None:
    if row.control_song is None or row.control_match is None:
        return None
    return Control(song=SongName.model_validate(row.control_song), matched_by=Matched(row.control_match))


def _without_key(kept: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kept.items() if name != "key"}
