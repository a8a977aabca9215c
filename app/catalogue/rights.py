"""What is stated of rights: who holds which share, in which role."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.attributions.examples import ID
from app.attributions.schemas import WITHOUT_NUL
from app.catalogue import identifiers
from app.catalogue.examples import RIGHT

Role = Literal["performer", "producer", "label", "composer", "lyricist", "arranger", "publisher"]
RECORDING_ROLES: frozenset[Role] = frozenset(("performer", "producer", "label"))
PARTS = 1_000_000_000

Party = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300), WITHOUT_NUL]
Ipi = Annotated[str, StringConstraints(max_length=40), AfterValidator(identifiers.ipi)]
Isni = Annotated[str, StringConstraints(max_length=40), AfterValidator(identifiers.isni)]


class RightFacts(BaseModel):
    """One party's part in a song, as a fraction of its side (the recording or the work), as it is stated."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": RIGHT})

    party: Party
    role: Role
    ipi: Ipi | None = None
    isni: Isni | None = None
    share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _within_whole(rights: list[RightFacts]) -> list[RightFacts]:
    """Refuse rights whose shares of the recording or of the work, in whole parts, sum to more than one."""
    for side, recording in (("recording", True), ("work", False)):
        total = sum(parts(right.share) for right in rights if (right.role in RECORDING_ROLES) is recording)
        if total > PARTS:
            raise ValueError(f"the shares of the {side} sum to {total / PARTS:.10g}, more than 1")
    return rights


def parts(share: float) -> int:
    """Return a right's share in whole parts, of which PARTS are one, so that sums are exact.

    What is beyond a part is cut off (three times 0.333… is not more than 1), but not what floating point lost.
    """
    return int(share * PARTS + 0.001)


Rights = Annotated[list[RightFacts], Field(max_length=200), AfterValidator(_within_whole)]


class Right(BaseModel):
    """One party's part in a song, as a fraction of its side (the recording or the work)."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": RIGHT | {"holder_id": ID}})

    holder_id: str = Field(description="Who that is, whatever it is called in other songs.")
    party: str
    role: str
    ipi: str | None
    isni: str | None
    share: float
