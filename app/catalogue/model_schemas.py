"""What the models' routes answer."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.builds.service import Standing
from app.models import Making
from app.models import Model as Row

_ID = "01980000-0000-7000-8000-000000000002"
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_MODEL: dict[str, Any] = {
    "id": _ID,
    "name": "starter",
    "digest": _DIGEST,
    "created_at": "2026-01-02T03:04:05Z",
    "training_set": {"songs": 48},
    "index": {
        "digest": _DIGEST,
        "songs": 48,
        "segments": 1200,
        "segment_seconds": 10.0,
        "progress": 1.0,
        "building": {
            "id": _ID,
            "status": "running",
            "progress": 0.4,
            "pieces": 120,
            "pieces_done": 47,
            "eta": "2026-01-02T05:04:05Z",
            "error": None,
        },
    },
    "details": {"sampling_rate": 16000},
}


class TrainingSet(BaseModel):
    """The songs that a model was trained on."""

    songs: int


class Building(BaseModel):
    """An index that is being built or grown; its id will be that of the registration."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    status: Making
    progress: float = Field(description="The part of the computing that is done.")
    pieces: int
    pieces_done: int
    eta: datetime | None = Field(description="When it will end at the pace so far; null before there is one.")
    error: str | None = Field(description="Why it failed.")


class Index(BaseModel):
    """What is precomputed of a training set.

    `progress`: the part of its songs that the index holds, or while the first one is built, of the computing.
    """

    digest: str | None = Field(description="Null while the first one is built.")
    songs: int
    segments: int
    segment_seconds: float | None
    progress: float
    building: Building | None = Field(description="What is under way; lists leave it out.")


class Model(BaseModel):
    """A registered generative pipeline, with its training set and its index."""

    model_config = ConfigDict(json_schema_extra={"example": _MODEL})

    id: str
    name: str
    digest: str | None = Field(description="Of the pipeline; null until a builder has seen it.")
    created_at: datetime
    training_set: TrainingSet
    index: Index
    details: dict[str, Any]

    @classmethod
    def of(cls, row: Row, indexed: int, build: Standing | None = None) -> Self:
        """Return a model as the interface shows it; `indexed` counts the songs that its index holds."""
        index = Index(
            digest=row.index_digest,
            songs=indexed,
            segments=row.segments,
            segment_seconds=row.segment_seconds,
            progress=indexed / row.songs if row.songs else 0.0,
            building=build and Building.model_validate(build),
        )
        return cls(
            id=row.id,
            name=row.name,
            digest=row.model_digest,
            created_at=row.created_at,
            training_set=TrainingSet(songs=row.songs),
            index=index,
            details=row.details,
        )

    @classmethod
    def coming(cls, build: Standing) -> Self:
        """Return a model that is registered once its first index is built."""
        building = Building.model_validate(build)
        index = Index(
            digest=None, songs=0, segments=0, segment_seconds=None, progress=build.progress, building=building
        )
        return cls(
            id=build.id,
            name=build.name,
            digest=build.model_digest,
            created_at=build.created_at,
            training_set=TrainingSet(songs=0),
            index=index,
            details={},
        )


class ModelPage(BaseModel):
    """Registered models, the newest first."""

    items: list[Model]
    next_cursor: str | None
