"""The result of an attribution, as a worker hands it in."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from app.errors import InvalidResult, ServiceError

TOLERANCE = 1e-3


@dataclass(frozen=True)
class OutcomeRow:
    """What one song of the training set contributed; `key` is the index's key of the song.

    score: raw, comparable within one model and index; share: ≥ 0; percentile: 0–100 against the background;
    check: finite-step change of the measure, where it was computed; matches: the matching segments, as JSON objects.
    """

    key: str
    score: float
    share: float
    percentile: float
    check: float | None = None
    matches: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = (self.score, self.share, self.percentile, 0.0 if self.check is None else self.check)
        if not all(map(math.isfinite, numbers)):
            raise InvalidResult(f"song {self.key}: a number is not finite")
        _require_json(self.matches)
        if self.share < 0 or not 0 <= self.percentile <= 100:
            raise InvalidResult(f"song {self.key}: share {self.share}, percentile {self.percentile}")


@dataclass(frozen=True)
class Outcome:
    """Everything an attribution found: influences ranked best first, and what is needed to judge and repeat them.

    Raises InvalidResult unless the shares and `unattributed` sum to 1, every song occurs once and the rest is JSON.
    """

    influences: tuple[OutcomeRow, ...]
    unattributed: float
    model_digest: str
    index_digest: str
    reliability: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    audio_facts: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        total = self.unattributed + sum(row.share for row in self.influences)
        if not math.isclose(total, 1.0, abs_tol=TOLERANCE) or self.unattributed < -TOLERANCE:
            raise InvalidResult(f"shares and remainder sum to {total}, remainder {self.unattributed}")
        if len({row.key for row in self.influences}) != len(self.influences):
            raise InvalidResult("a song occurs twice")
        _require_json([self.reliability, self.timings, self.details, self.audio_facts])


def _require_json(value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidResult(f"a part of the result is not JSON: {error}") from error


@dataclass(frozen=True)
class ErrorInfo:
    """Why an attribution failed: the slug of a problem type, and a sentence."""

    type: str
    detail: str

    @classmethod
    def of(cls, error: ServiceError) -> ErrorInfo:
        """The same error, as a row keeps it."""
        return cls(error.type, error.detail)
