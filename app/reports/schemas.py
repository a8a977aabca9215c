"""What the routes of reports answer beside the documents themselves."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.attributions.examples import DIGEST, ID
from app.models import ReportKey as Row
from app.reports.sealing import ALGORITHM, Verdict

_KEY = DIGEST[:32]


class ReportKey(BaseModel):
    """A public key that documents were signed with."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": _KEY,
                "algorithm": ALGORITHM,
                "public_key": DIGEST,
                "created_at": "2026-01-02T03:04:05Z",
                "signs": True,
            }
        }
    )

    id: str = Field(description="The first 32 hexadecimal digits of the key's SHA-256.")
    algorithm: str
    public_key: str = Field(description="Its 32 bytes, as hexadecimal digits.")
    created_at: datetime = Field(description="When it was first used.")
    signs: bool = Field(description="Whether this process signs with it now; the others only verify.")

    @classmethod
    def of(cls, row: Row, signing: str) -> Self:
        """Return a key as the interface shows it; `signing` is the id of the one in use."""
        facts = {"id": row.id, "public_key": row.public_key, "created_at": row.created_at}
        return cls(algorithm=ALGORITHM, signs=row.id == signing, **facts)


class ReportKeyList(BaseModel):
    """Every key there was, the newest first."""

    items: list[ReportKey]


class Verification(BaseModel):
    """Whether a file is, to the last byte, a document that this service signed."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "valid": True,
                "reason": None,
                "key_id": _KEY,
                "type": "rootnote.report",
                "schema": 1,
                "subject": ID,
            }
        },
        serialize_by_alias=True,
        validate_by_name=True,
    )

    valid: bool
    reason: str | None = Field(description="Why it is not; null where it is.")
    key_id: str | None
    type: str | None
    schema_: int | None = Field(alias="schema", description="The version of the document's form.")
    subject: str | None = Field(description="The id of what it is about.")

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """Return a verdict as the interface shows it."""
        told: dict[str, Any] = verdict.document or {}
        return cls(
            valid=verdict.valid,
            reason=verdict.reason,
            key_id=verdict.key_id,
            type=told.get("type"),
            schema_=told.get("schema"),
            subject=_subject(told),
        )


def _subject(told: Mapping[str, Any]) -> str | None:
    """Return the id of an attribution or of a statement; what it is about has the name of its kind."""
    about = told.get("attribution") or told.get("statement")
    return about["id"] if about else None
