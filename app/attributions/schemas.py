"""What the attributions' routes take and answer."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import UploadFile
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from sqlalchemy import Row as SelectedRow

from app.attributions.examples import ATTRIBUTION
from app.errors import MissingFile
from app.models import Attribution as Row
from app.models import Counterfactual as CounterfactualRow
from app.models import Method, Stage, Status, Verdict
from app.problems import title_of, type_uri


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    return text


WITHOUT_NUL = AfterValidator(_without_nul)


def _file(sent: object) -> object:
    if isinstance(sent, str):
        raise MissingFile("`audio` is text, not a file")
    return sent


Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""What a generation started from."""


class NewTrack(BaseModel):
    """A track to attribute, as a multipart form."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"required": ["audio"]})

    audio: Annotated[UploadFile | None, BeforeValidator(_file)] = Field(
        None, description="The track: WAV, FLAC, MP3, Ogg, Opus or AIFF."
    )
    model: Annotated[str, StringConstraints(max_length=200), WITHOUT_NUL] | None = Field(
        None, description="A model's name."
    )
    prompt: Annotated[str, StringConstraints(max_length=4000), WITHOUT_NUL] | None = Field(
        None, description="What the model was told, where known."
    )
    seed: Seed | None = Field(None, description="What the generation started from, where known.")
    external_id: Annotated[str, StringConstraints(max_length=200), WITHOUT_NUL] | None = Field(
        None, description="The caller's own name for the track."
    )
    method: str = Field(Method.INDEX, description=f"One of {', '.join(Method)}.", examples=list(Method))
    expires_in: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds after which it expires if no worker has taken it up."
    )
    top_k: int = Field(10, ge=1, le=1000, description="How many songs are shown by default; all are stored.")


class ModelName(BaseModel):
    """A registered model, in short."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str


class Provenance(BaseModel):
    """Whose track it seems to be; a model without a calibration says `unknown`."""

    verdict: Verdict
    probability: float | None = Field(description="Of being this model's, from the fitted gate.")


class Audio(BaseModel):
    """What is known of the track from its bytes and its header."""

    model_config = ConfigDict(extra="allow")

    filename: str | None
    sha256: str
    bytes: int
    format: str | None = None
    samplerate: int | None = None
    channels: int | None = None
    duration_s: float | None = Field(None, description="Seconds; null where only decoding shows it.")

    @classmethod
    def of(cls, row: Row | SelectedRow[Any]) -> Self:
        """Return the facts of an attribution's track."""
        stored = {"filename": row.filename, "sha256": row.audio_sha256, "bytes": row.audio_bytes}
        return cls.model_validate(row.audio_facts | stored)


class JobError(BaseModel):
    """Why an attribution failed; `type` is that of a problem document."""

    type: str
    title: str
    detail: str


class Result(BaseModel):
    """How a result was found, and how far it can be trusted; `unattributed` and all shares sum to 1."""

    method: Method
    measure: str | None = Field(description="What is measured of a segment; several are joined by ` + `.")
    draws: int | None
    model_digest: str | None
    index_digest: str | None
    worker_id: str | None = Field(description="The worker process that found it.")
    provenance: Provenance
    reference_loss: float | None = Field(
        description="Denoising loss of predicting nothing, less the model's: all that the model knows about the track."
    )
    shares: Literal["calibrated", "uncalibrated"] = Field(
        description="Calibrated: effects as parts of `reference_loss`. Uncalibrated: a provisional rule without a unit."
    )
    abstained: str | None = Field(description="Why nothing is attributed; null where something could be.")
    unattributed: float | None
    reliability: dict[str, Any] = Field(
        description="Rank correlations (agreement of the draws, of prediction and check, with hubs) and the verdict."
    )
    timings: dict[str, float] = Field(description="Seconds per stage.")
    details: dict[str, Any]

    @classmethod
    def of(cls, row: Row | SelectedRow[Any]) -> Self | None:
        """Return the result of an attribution, None unless it has succeeded."""
        if row.status != Status.SUCCEEDED:
            return None
        details = dict(row.details)
        return cls(
            method=Method(row.method),
            measure=_measure(details.pop("measure", None)),
            draws=details.pop("draws", None),
            model_digest=row.model_digest,
            index_digest=row.index_digest,
            worker_id=row.worker_id,
            provenance=Provenance(
                verdict=Verdict(row.provenance_verdict or Verdict.UNKNOWN), probability=row.provenance_probability
            ),
            reference_loss=row.reference_loss,
            shares="calibrated" if row.calibrated else "uncalibrated",
            abstained=row.abstained,
            unattributed=row.unattributed,
            reliability=row.reliability,
            timings=row.timings,
            details=details,
        )


class Attribution(BaseModel):
    """One request with its state and, once it has succeeded, its result."""

    model_config = ConfigDict(json_schema_extra={"example": ATTRIBUTION})

    id: str
    status: Status
    stage: Stage | None = Field(description="What a worker does, or last did; null before the first and after success.")
    progress: float
    method: Method
    model: ModelName
    prompt: str | None
    seed: int | None = Field(None, description="What the generation started from, where it was told.")
    external_id: str | None
    counted: bool = Field(
        description="Whether sums are made of this one: of a track's attributions by one model, the first to succeed."
    )
    repeats: str | None = Field(description="The attribution whose track this is again; null for an upload.")
    top_k: int
    audio: Audio
    audio_erased_at: datetime | None = Field(description="When the upload was erased; null while it is kept.")
    attempts: int
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime = Field(description="When it expires, if no worker has taken it up by then.")
    error: JobError | None
    result: Result | None

    @classmethod
    def of(cls, row: Row | SelectedRow[Any]) -> Self:
        """Return an attribution, its model being loaded, or its columns, as the interface shows it."""
        plain = {
            name: getattr(row, name) for name in cls.model_fields if name not in {"model", "audio", "error", "result"}
        }
        return cls(
            **plain,
            model=ModelName(id=row.model_id, name=row.model_name),
            audio=Audio.of(row),
            error=job_error(row),
            result=Result.of(row),
        )


class AttributionPage(BaseModel):
    """Attributions, the newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [ATTRIBUTION], "next_cursor": None}})

    items: list[Attribution]
    next_cursor: str | None


def _measure(stored: str | list[str] | None) -> str | None:
    return " + ".join(stored) if isinstance(stored, list) else stored


def job_error(row: Row | CounterfactualRow | SelectedRow[Any]) -> JobError | None:
    """Return why a job failed, None where it did not."""
    if row.error_type is None:
        return None
    return JobError(type=type_uri(row.error_type), title=title_of(row.error_type), detail=row.error_detail or "")
