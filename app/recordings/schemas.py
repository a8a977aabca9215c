"""What the recordings' routes answer in JSON."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.audio import Envelope

WAVEFORM: dict[str, Any] = {"duration_s": 10.24, "peaks": [0.02, 0.31, 0.44, 0.12]}


class Waveform(BaseModel):
    """How loud a recording is over time."""

    model_config = ConfigDict(json_schema_extra={"example": WAVEFORM})

    duration_s: float
    peaks: list[float] = Field(description="Largest magnitude in each of as many equal parts, 0 to 1.")

    @classmethod
    def of(cls, found: Envelope) -> "Waveform":
        """Return an envelope as the interface shows it."""
        return cls(duration_s=found.seconds, peaks=[round(peak, 4) for peak in found.peaks])
