"""What pages say of numbers and results, and where charts put them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.attributions import examples
from app.attributions.influence_schemas import InfluenceRow
from app.attributions.schemas import Result
from app.catalogue.examples import HISTORY_ROW
from app.catalogue.history import Point
from app.catalogue.schemas import HistoryRow
from app.pages import charts, formats, timeline, verdicts
from app.pages.charts import Axis, Ticks
from app.pages.heat import Line, heat

FRACTION = st.floats(0, 1)


def result(**changed):
    return Result.model_validate(examples.RESULT | changed)


def row(**changed):
    return InfluenceRow.model_validate(examples.ROW | changed)


@pytest.mark.parametrize(
    ("said", "is_"),
    [
        (formats.percent(0.2254), "22.5 %"),
        (formats.percent(0.0), "0.0 %"),
        (formats.percent(0.0001), "< 0.1 %"),
        (formats.percent(None), "–"),
        (formats.interval(0.039, 0.411), "3.9–41.1 %"),
        (formats.number(159_800.0), "1.60 × 10⁵"),
        (formats.number(0.000079), "7.90 × 10⁻⁵"),
        (formats.number(1630.4), "1,630"),
        (formats.number(0.161), "0.161"),
        (formats.clock(100.24), "1:40"),
        (formats.size(441_044), "441.0 kB"),
        (formats.moment(datetime(2026, 1, 2, 3, 4, tzinfo=UTC)), "2 Jan 2026, 03:04 UTC"),
    ],
)
def test_numbers_are_written_so(said, is_):
    assert said == is_


@given(FRACTION)
def test_an_axis_holds_what_it_was_made_for_on_round_ticks(highest):
    axis = Axis.to(highest)
    assert axis.top >= min(highest, 1.0) - 1e-9
    assert (axis.ticks[0], axis.ticks[-1]) == (0.0, pytest.approx(axis.top))
    assert 2 <= len(axis.ticks) <= charts.MOST_TICKS + 1
    assert 0 <= axis.at(highest) <= 100


@given(st.lists(FRACTION, max_size=30))
def test_pieces_and_the_remainder_fill_the_whole(weights):
    total = sum(weights)
    shares = sorted((weight / max(total, 1.0) for weight in weights), reverse=True)
    unattributed = 1.0 - sum(shares)
    laid = charts.pieces([(str(place), share) for place, share in enumerate(shares)], unattributed)
    assert sum(piece.width for piece in laid) == pytest.approx(100 * (1 - unattributed), abs=0.2)
    for before, after in pairwise(laid):
        assert after.start == pytest.approx(before.start + before.width, abs=0.01)


@given(st.floats(0.5, 7200))
def test_ticks_lie_within_the_recording(seconds):
    places = Ticks.of(seconds).places
    assert places[0] == (0.0, 0.0)
    assert all(0 <= place < 100 for place, _ in places)
    assert len(places) <= charts.MOST_TICKS + 3


def test_an_answer_that_abstains_says_so_first():
    words = verdicts.headline(result(abstained="the track does not seem to be this model's", unattributed=1.0), [row()])
    assert words == "No song is credited: the track does not seem to be this model's."


def test_the_headline_adds_up():
    rows = [row(share=0.2), row(rank=2, share=0.05), row(rank=3, share=0.0)]
    words = verdicts.headline(result(unattributed=0.75), rows)
    assert (
        words
        == "20.0 % is traced to “Night Drive” by The Examples, 5.0 % to one other song. 75.0 % stays unattributed."
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shares": "uncalibrated"}, "no calibration"),
        ({"reliability": {"draws": 0.6, "linearisation": 0.9, "hubs": 0.1}}, "Other noise draws"),
        ({"reliability": {"draws": 0.9, "linearisation": None, "hubs": 0.1}}, "No real step"),
        ({"reliability": {"draws": 0.9, "linearisation": 0.6, "hubs": 0.1}}, "agrees only in part"),
        ({"reliability": {"draws": 0.9, "linearisation": 0.9, "hubs": 0.95}}, "any track gets"),
    ],
)
def test_why_not_to_believe_it_further_is_said(changed, words):
    assert any(words in each for each in verdicts.reservations(result(**changed), []))
    assert not any(
        words in each for each in verdicts.reservations(result(reliability={"draws": 0.9, "linearisation": 0.9}), [])
    )


def test_every_verdict_has_words():
    for verdict in ("own", "foreign", "unsure", "unknown"):
        assert verdicts.provenance(result(provenance={"verdict": verdict, "probability": None})).word
    assert verdicts.reliability(result(reliability={})).tone == "unknown"
    assert all(gauge.tone == "none" for gauge in verdicts.gauges(result(reliability={})))


def match(track, song, score):
    return {"segment": 0, "song_start_s": song, "track_start_s": track, "seconds": 10.0, "score": score}


def test_a_section_shows_the_strongest_match_of_a_song_and_the_song_all_of_them():
    matched = row(matches=[match(10.0, 0.0, 1.0), match(10.0, 20.0, 5.0), match(0.0, 40.0, 2.0)])
    (shown,) = heat([Line(matched, held=True, seconds=80.0), Line(row(matches=[]), held=False, seconds=None)], 40.0)
    assert [(mark.match.track_start_s, mark.match.score) for mark in shown.sections] == [(0.0, 2.0), (10.0, 5.0)]
    assert [mark.song for mark in shown.marks] == [(25.0, 12.5), (50.0, 12.5), (0.0, 12.5)]
    assert [mark.level for mark in shown.marks] == [5, 2, 1]
    assert shown.sections[1].track == (25.0, 25.0)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(-10, 10)), min_size=1, max_size=5),
    st.floats(0, 60),
)
def test_marks_lie_within_track_and_song(places, seconds):
    found = row(matches=[match(*place) for place in places])
    (shown,) = heat([Line(found, held=False, seconds=None)], seconds)
    for mark in shown.marks:
        assert 1 <= mark.level <= 5
        for begin, width in (mark.track, mark.song):
            assert 0 <= begin <= 100
            assert 0 <= begin + width <= 100.01


def point(start, total=0.5):
    return Point(start, 1, total, total, 1)


def test_empty_buckets_are_shown_as_such():
    chart = timeline.of_points([point(date(2026, 1, 31)), point(date(2026, 4, 1))], "month")
    assert [bar.label for bar in chart.bars] == ["Jan 2026", "Feb 2026", "Mar 2026", "Apr 2026", "May 2026"][
        : len(chart.bars)
    ]
    weeks = timeline.of_points([point(date(2026, 1, 5)), point(date(2026, 1, 26))], "week")
    assert [bar.height > 0 for bar in weeks.bars] == [True, False, False, True]


def test_a_very_long_history_is_cut_and_says_so():
    chart = timeline.of_points([point(date(2020, 1, 1)), point(date(2026, 1, 1), 300.0)], "day")
    assert (len(chart.bars), chart.cut) == (timeline.MOST_BARS, True)
    assert len(chart.labelled) <= timeline.MOST_LABELS
    assert chart.axis.top >= 300


def test_nothing_found_is_no_chart():
    assert timeline.of_points([], "day").bars == timeline.of_tracks([], cut=False).bars == ()


def test_tracks_stand_in_order_of_time_with_their_intervals():
    rows = [HistoryRow.model_validate(HISTORY_ROW | {"share": share}) for share in (0.3, 0.1)]
    first, second = timeline.of_tracks(rows, cut=False).bars
    assert first.height < second.height
    assert first.start + first.width <= second.start
