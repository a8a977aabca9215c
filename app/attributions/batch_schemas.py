"""What the batches' routes take and answer."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.attributions.batches import Answer, Item
from app.attributions.examples import ATTRIBUTION, ID
from app.attributions.schemas import WITHOUT_NUL, Attribution, JobError, Seed
from app.attributions.service import NewAttribution
from app.models import Method, Status
from app.problems import type_uri

MAX_ITEMS = 200
BatchName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:\-]{1,100}$")]
CustomId = Annotated[str, StringConstraints(min_length=1, max_length=200), WITHOUT_NUL]
Text = Annotated[str, StringConstraints(max_length=200), WITHOUT_NUL]

NEW_ITEM: dict[str, Any] = {"custom_id": "render-77", "file": "track77", "prompt": "slow piano"}
BATCH: dict[str, Any] = {
    "batch": "night-42",
    "items": 1000,
    "counts": {"queued": 700, "running": 4, "succeeded": 295, "failed": 1},
    "ended": 296,
}
RECEIPT: dict[str, Any] = {
    "batch": "night-42",
    "accepted": 1,
    "known": 0,
    "refused": 1,
    "items": [
        {"custom_id": "render-77", "attribution_id": ID, "known": False, "error": None},
        {
            "custom_id": "render-78",
            "attribution_id": None,
            "known": False,
            "error": {
                "type": "urn:rootnote:problem:too-short",
                "title": "The audio is too short",
                "detail": "0.2 s of audio; at least 1 s is needed",
            },
        },
    ],
}


class NewItem(BaseModel):
    """A track of a batch; `file` names a part of the request, `sha256` a track that was sent in an earlier one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": NEW_ITEM})

    custom_id: CustomId = Field(description="The caller's own name for the item, once in a batch.")
    file: Text | None = Field(None, description="Name of the form's part that holds the track.")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest of a track that was sent before."
    )
    model: Text | None = None
    prompt: Annotated[str, StringConstraints(max_length=4000), WITHOUT_NUL] | None = None
    seed: Seed | None = None
    method: str = Method.INDEX
    expires_in: float | None = Field(None, gt=0, allow_inf_nan=False)
    top_k: int = Field(10, ge=1, le=1000)

    @model_validator(mode="after")
    def _one_track(self) -> Self:
        if (self.file is None) == (self.sha256 is None):
            raise ValueError("an item has either `file` or `sha256`")
        return self

    def item(self, batch: str) -> Item:
        """Return it as an item of that batch."""
        request = NewAttribution(
            model=self.model,
            method=self.method,
            prompt=self.prompt,
            seed=self.seed,
            external_id=self.custom_id,
            top_k=self.top_k,
            expires_in_s=self.expires_in,
            batch=batch,
            custom_id=self.custom_id,
        )
        return Item(self.custom_id, request, self.file, self.sha256)


class ItemAnswer(BaseModel):
    """What became of an item: `known` ones were accepted by an earlier request, and are as they were then."""

    custom_id: str
    attribution_id: str | None
    known: bool
    error: JobError | None

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """Return an answer as the interface shows it."""
        error = answer.error and JobError(
            type=type_uri(answer.error.type), title=answer.error.title, detail=answer.error.detail
        )
        return cls(custom_id=answer.custom_id, attribution_id=answer.attribution_id, known=answer.known, error=error)


class BatchReceipt(BaseModel):
    """What became of each item of a request, in its order."""

    model_config = ConfigDict(json_schema_extra={"example": RECEIPT})

    batch: str
    accepted: int
    known: int
    refused: int
    items: list[ItemAnswer]


class Batch(BaseModel):
    """How the items of a batch stand."""

    model_config = ConfigDict(json_schema_extra={"example": BATCH})

    batch: str
    items: int
    counts: dict[Status, int]
    ended: int = Field(description="Those that will not change any more.")


class BatchItem(BaseModel):
    """An item of a batch and its attribution."""

    model_config = ConfigDict(json_schema_extra={"example": {"custom_id": "render-77", "attribution": ATTRIBUTION}})

    custom_id: str
    attribution: Attribution


class BatchItemPage(BaseModel):
    """Items in the order of their custom ids."""

    items: list[BatchItem]
    next_cursor: str | None
