"""The ranking on a terminal: intervals and effects where there are some, and why an answer is silent."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from app import show
from app.attributions.examples import ATTRIBUTION, RESULT, ROW
from app.attributions.influence_schemas import InfluenceRow
from app.attributions.schemas import Attribution


def shown(result: dict[str, object], row: dict[str, object]) -> str:
    out = Console(file=io.StringIO(), width=show.PLAIN_WIDTH)
    attribution = Attribution.model_validate(ATTRIBUTION | {"result": RESULT | result})
    show.ranking(out, attribution, [InfluenceRow.model_validate(ROW | row)])
    return out.file.getvalue()


def test_a_ranking_shows_effects_intervals_and_where_the_track_is_from() -> None:
    text = shown({}, {})
    for words in ("0.048", "14.1%", "8.1–25.7 %", "provenance: own (probability 0.998)", "shares calibrated"):
        assert words in text
    assert "no shares" not in text


def test_an_answer_that_abstains_says_why() -> None:
    text = shown(
        {"abstained": "not ours", "unattributed": 1.0, "provenance": {"verdict": "foreign", "probability": 0}}, {}
    )
    for words in ("no shares: not ours", "provenance: foreign (probability 0.000)", "unattributed: 100.0%"):
        assert words in text


@pytest.mark.parametrize("missing", ["share_low", "effect"])
def test_what_an_older_result_lacks_is_a_dash(missing: str) -> None:
    unknown = {"provenance": {"verdict": "unknown", "probability": None}, "reference_loss": None}
    text = shown(unknown | {"shares": "uncalibrated"}, {missing: None})
    assert "│ – " in text or " – │" in text
    assert "provenance: unknown\n" in text
