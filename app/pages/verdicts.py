"""A result in sentences: what it says, whose track it seems to be, how far it can be believed and why not further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.models import Verdict
from app.pages.formats import interval, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.attributions.influence_schemas import InfluenceRow
    from app.attributions.schemas import Result

GOOD, FAIR, HUBS = 0.8, 0.5, 0.9
"""As `worker.attribution.calibrate` judges: the weaker of draws and linearisation decides, hubs are fair at best."""
WIDE = 0.5

_PROVENANCE = {
    Verdict.OWN: ("Made by this model", "The model's autoencoder treats the track as one of its own."),
    Verdict.FOREIGN: (
        "Not made by this model",
        "The model's autoencoder treats the track as another model's or a human recording. It gets no shares.",
    ),
    Verdict.UNSURE: (
        "Unsure whose it is",
        "The track lies between this model's own and foreign ones; lossy copies of own tracks often do.",
    ),
    Verdict.UNKNOWN: ("Not asked", "This model has no calibration, so whose track it is was not judged."),
}
_RELIABILITY = {
    "good": "The parts of the evidence agree well.",
    "fair": "The parts of the evidence agree in the main; read the order of close songs with care.",
    "poor": "The parts of the evidence disagree, so no shares are given.",
}


@dataclass(frozen=True)
class Told:
    """A verdict: its word, what it means, and a tone (good, fair, poor, none) to show it in."""

    word: str
    meaning: str
    tone: str


@dataclass(frozen=True)
class Gauge:
    """One measure of reliability: its name, value from −1 to 1, what it means, and the tone of its value."""

    name: str
    value: float | None
    meaning: str
    tone: str


def headline(result: Result, rows: Sequence[InfluenceRow]) -> str:
    """Say in one sentence what was found, remainder included."""
    if result.abstained is not None:
        return f"No song is credited: {result.abstained}."
    given = [row for row in rows if row.share > 0]
    left = percent(result.unattributed)
    if not given:
        return f"No song stands out from its background. {left} of the track stays unattributed."
    first = given[0]
    told = f"{percent(first.share)} is traced to “{first.song.title}” by {first.song.artist}"
    if len(given) > 1:
        told += f", {percent(sum(row.share for row in given[1:]))} to {_others(len(given) - 1)}"
    return f"{told}. {left} stays unattributed."


def provenance(result: Result) -> Told:
    """Say whose track it seems to be."""
    verdict = result.provenance.verdict
    word, meaning = _PROVENANCE[verdict]
    tones = {Verdict.OWN: "good", Verdict.FOREIGN: "poor", Verdict.UNSURE: "fair", Verdict.UNKNOWN: "none"}
    return Told(word, meaning, tones[verdict])


def reliability(result: Result) -> Told:
    """Say how far the ranking can be believed."""
    word = str(result.reliability.get("verdict", "unknown"))
    return Told(word.capitalize(), _RELIABILITY.get(word, "How reliable the ranking is was not measured."), word)


def gauges(result: Result) -> list[Gauge]:
    """List what reliability was judged by."""
    draws, step, hubs = (_number(result, name) for name in ("draws", "linearisation", "hubs"))
    return [
        Gauge("Draws agree", draws, "Rank correlation to expect with as many other noise draws.", _tone(draws)),
        Gauge(
            "Prediction and real step agree",
            step,
            "Rank correlation of what the index predicts and what a real step of unlearning did.",
            _tone(step),
        ),
        Gauge(
            "Agrees with any track's answer",
            hubs,
            "Rank correlation with the songs' mean over unrelated tracks: near 1, it would say little of this one.",
            "none" if hubs is None else "fair" if hubs >= HUBS else "good",
        ),
    ]


def reservations(result: Result, rows: Sequence[InfluenceRow]) -> list[str]:
    """Say why the answer is not to be believed further than it is; the last ones hold for every answer."""
    draws, step, hubs = (_number(result, name) for name in ("draws", "linearisation", "hubs"))
    wide = [row for row in rows if row.share_low is not None and row.share_high is not None and row.share >= 0.01]
    widest = max(wide, key=lambda row: (row.share_high or 0) - (row.share_low or 0), default=None)
    found = [
        (result.shares == "uncalibrated", "This model has no calibration: shares follow a provisional rule, no unit."),
        (draws is not None and draws < GOOD, "Other noise draws would order the songs somewhat differently."),
        (step is None, "No real step of unlearning was made to check the prediction."),
        (step is not None and step < GOOD, "A real step of unlearning agrees only in part with the prediction."),
        (hubs is not None and hubs >= HUBS, "The answer is close to what any track gets: it says little of this one."),
        (widest is not None, "" if widest is None else _width(widest)),
        (True, "Intervals hold noise draws and the scale of effects, not the projection nor the choice of model."),
    ]
    return [words for holds, words in found if holds]


def _width(row: InfluenceRow) -> str:
    return (
        f"One retraining without “{row.song.title}” is expected to land anywhere in "
        f"{interval(row.share_low, row.share_high)}: single trainings differ that much."
    )


def _number(result: Result, name: str) -> float | None:
    value = result.reliability.get(name)
    return float(value) if isinstance(value, int | float) else None


def _tone(value: float | None) -> str:
    if value is None:
        return "none"
    return "good" if value >= GOOD else "fair" if value >= FAIR else "poor"


def _others(count: int) -> str:
    return "one other song" if count == 1 else f"{count} other songs"
