"""The result of an attribution, as a worker hands it in."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from app.errors import InvalidResult, ServiceError
from app.models import Verdict

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Check:
    """Finite-step changes in units of the best match's score: of the song without the track, and vice versa."""

    mirrored: float
    forward: float | None = None


@dataclass(frozen=True)
class Interval:
    """Where the 90 % intervals of a song's score and share begin and end."""

    score_low: float
    score_high: float
    share_low: float
    share_high: float


@dataclass(frozen=True)
class OutcomeRow:
    """What one song of the training set contributed; `key` is the index's key of the song.

    score: raw, comparable within one model and index; share: ≥ 0; percentile: 0–100 against the background;
    check: where it was computed; matches: the matching segments, as JSON objects; effect: rise of the track's loss that
    the score stands for, None without a calibration.
    """

    key: str
    score: float
    share: float
    percentile: float
    check: Check | None = None
    matches: list[dict[str, Any]] = field(default_factory=list)
    interval: Interval | None = None
    effect: float | None = None

    def __post_init__(self) -> None:
        nested = (asdict(each) for each in (self.check, self.interval) if each is not None)
        numbers = [self.score, self.share, self.percentile, self.effect, *(x for each in nested for x in each.values())]
        if not all(math.isfinite(x) for x in numbers if x is not None):
            raise InvalidResult(f"song {self.key}: a number is not finite")
        _require_json(self.matches)
        if self.share < 0 or not 0 <= self.percentile <= 100:
            raise InvalidResult(f"song {self.key}: share {self.share}, percentile {self.percentile}")
        if self.interval is not None:
            _require_within(self.share, self.interval.share_low, self.interval.share_high)
            _require_within(self.score, self.interval.score_low, self.interval.score_high)


@dataclass(frozen=True)
class Provenance:
    """Whose track it seems to be; probability: of being the registered model's, None where that was not asked."""

    verdict: Verdict = Verdict.UNKNOWN
    probability: float | None = None

    def __post_init__(self) -> None:
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise InvalidResult(f"a probability of {self.probability}")


@dataclass(frozen=True)
class Worth:
    """What an answer is worth.

    reference_loss: how much better the model predicts the track than nothing would; calibrated: shares are parts of
    that; abstained: why there are no shares.
    """

    provenance: Provenance = Provenance()
    reference_loss: float | None = None
    calibrated: bool = False
    abstained: str | None = None


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
    worth: Worth = Worth()

    def __post_init__(self) -> None:
        total = self.unattributed + sum(row.share for row in self.influences)
        if not math.isclose(total, 1.0, abs_tol=TOLERANCE) or self.unattributed < -TOLERANCE:
            raise InvalidResult(f"shares and remainder sum to {total}, remainder {self.unattributed}")
        if len({row.key for row in self.influences}) != len(self.influences):
            raise InvalidResult("a song occurs twice")
        if self.worth.abstained is not None and self.unattributed < 1 - TOLERANCE:
            raise InvalidResult("an answer that abstains gives no shares")
        _require_json([self.reliability, self.timings, self.details, self.audio_facts])


def _require_within(value: float, low: float, high: float) -> None:
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    if not low - slack <= value <= high + slack:
        raise InvalidResult(f"{value} lies outside of its interval from {low} to {high}")


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
