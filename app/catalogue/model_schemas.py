"""What the models' routes answer."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from app.models import Model as Row

_ID = "01980000-0000-7000-8000-000000000002"
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_MODEL: dict[str, Any] = {
    "id": _ID,
    "name": "starter",
    "digest": _DIGEST,
    "created_at": "2026-01-02T03:04:05Z",
    "training_set": {"songs": 48},
    "index": {"digest": _DIGEST, "songs": 48, "segments": 1200, "segment_seconds": 10.0, "progress": 1.0},
    "details": {"sampling_rate": 16000},
}


class TrainingSet(BaseModel):
    """The songs that a model was trained on."""

    songs: int


class Index(BaseModel):
    """What is precomputed of a training set; `progress` is the part of its songs that the index holds."""

    digest: str
    songs: int
    segments: int
    segment_seconds: float
    progress: float


class Model(BaseModel):
    """A registered generative pipeline, with its training set and its index."""

    model_config = ConfigDict(json_schema_extra={"example": _MODEL})

    id: str
    name: str
    digest: str
    created_at: datetime
    training_set: TrainingSet
    index: Index
    details: dict[str, Any]

    @classmethod
    def of(cls, row: Row, indexed: int) -> Self:
        """Return a model as the interface shows it; `indexed` counts the songs that its index holds."""
        index = Index(
            digest=row.index_digest,
            songs=indexed,
            segments=row.segments,
            segment_seconds=row.segment_seconds,
            progress=indexed / row.songs if row.songs else 0.0,
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


class ModelPage(BaseModel):
    """Registered models, the newest first."""

    items: list[Model]
    next_cursor: str | None
