"""The result of a counterfactual, as a worker hands it in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from app.errors import InvalidResult
from app.models import Take

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Shift:
    """How far a measure moved, and its 90 % interval over noise draws."""

    mean: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.mean <= self.high:  # false for NaN too
            raise InvalidResult(f"{self.mean} lies outside of its interval from {self.low} to {self.high}")


@dataclass(frozen=True)
class Apart:
    """How far two recordings are apart: dB between their log spectra, and ‖a − b‖ / ‖a‖ of their samples."""

    spectral_db: float
    waveform: float


@dataclass(frozen=True)
class Forgotten:
    """What forgetting one song did: to the track's loss, to the song's own, and to the sound made again."""

    change: Shift
    own: Shift
    apart: Apart | None


@dataclass(frozen=True)
class KeptTake:
    """A recording that was put into the storage."""

    key: str
    sha256: str
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """Everything that a counterfactual found.

    loss: the track's before; likeness: of the track and the baseline, which says whether prompt and seed are those
    that it was made from. Raises InvalidResult unless it is whole and JSON.
    """

    loss: float
    song: Forgotten
    control: Forgotten | None
    difference: Shift | None
    likeness: Apart | None
    audio: Mapping[Take, KeptTake]
    timings: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = set(Take) if self.control else set(Take) - {Take.CONTROL}
        if set(self.audio) != expected or (self.control is None) != (self.difference is None):
            raise InvalidResult("a control song comes with its recording and its comparison")
        try:
            json.dumps([self.result(), self.recordings()], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidResult(f"a part of the result is not JSON: {error}") from error

    def result(self) -> dict[str, Any]:
        """Return the numbers as a row keeps them."""
        return {name: value for name, value in asdict(self).items() if name != "audio"}

    def recordings(self) -> dict[str, Any]:
        """Return where the takes lie, as a row keeps it."""
        return {str(take): asdict(kept) for take, kept in self.audio.items()}
