"""A closed month adds up exactly, is closed once, and is corrected by later lines alone. On both databases."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DatabaseError

from app.attributions import lease
from app.db import reading, transaction
from app.disputes import service as disputes
from app.disputes.service import Objection, Review
from app.errors import InvalidRequest
from app.models import Closing, DisputeOutcome, Event, Holder, StatedSong, StatedTrack, Statement, StatementLine, new_id
from app.statements.amounts import UNIT, decimal
from app.statements.closing import MonthOpen, MonthPassed
from tests.app import registered
from tests.app.statements import books
from tests.app.statements.books import TENANT, Track, right

if TYPE_CHECKING:
    from app.config import Settings
    from app.db import Database
    from app.models import Model
    from tests.app.registered import Clock

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
TABLES = (Closing, Statement, StatementLine, StatedTrack, StatedSong)


@pytest.fixture
def songs(database: Database) -> list[str]:
    """Songs whose rights are whole, in part, in thirds, of nobody, and several of one holder."""
    return [
        books.song(database, "whole", right("Label", "label", 1), right("Ada", "composer", 1)),
        books.song(database, "part", right("Label", "label", 0.4), right("Bo", "lyricist", 0.25)),
        books.song(database, "thirds", *(right(name, "performer", 1 / 3) for name in ("Ada", "Bo", "Cy"))),
        books.song(database, "nobody"),
        books.song(database, "twice", right("Ada", "composer", 0.5), right("Ada", "composer", 0.25)),
    ]


def tracks(songs: list[str], number: int, first: datetime, seed: int = 0) -> list[Track]:
    """Tracks of a month with random shares that sum to less than one; every seventh does not count."""
    chance = random.Random(seed)  # noqa: S311  shares, not secrets
    made = []
    for place in range(number):
        found = chance.sample(songs, chance.randint(1, len(songs)))
        weights = [chance.random() for _ in found]
        whole = sum(weights) * (1 + chance.random())
        shares = {song: weight / whole for song, weight in zip(found, weights, strict=True)}
        made.append(Track(first + timedelta(minutes=chance.randrange(28 * 1440)), shares, counted=place % 7 != 0))
    return made


def counts(database: Database) -> list[int]:
    with reading(database) as session:
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES]


def test_a_month_of_many_tracks_adds_up_to_the_last_unit(database: Database, model: Model, songs: list[str]) -> None:
    posted = tracks(songs, 1400, JANUARY)
    counted = sum(track.counted for track in posted)
    assert counted >= 1000
    books.add(database, model.id, posted)
    closed = books.close(database, "2026-01")
    stated = books.lines(database)
    assert stated == books.due(database, posted)
    count, attributed, recordings, works = books.totals(database, "2026-01")
    assert count == counted
    assert attributed == sum(int(share * UNIT) for track in posted if track.counted for share in track.shares.values())
    assert (recordings, works) == books.by_side(stated)
    # The law of the statement: on each side, claimed + unclaimed + unattributed is the number of tracks, exactly.
    unattributed = count * UNIT - attributed
    for claimed in (recordings, works):
        assert 0 < claimed < attributed
        assert claimed + (attributed - claimed) + unattributed == counted * UNIT
    with reading(database) as session:
        statements = session.scalars(select(Statement)).all()
        names = {name for (name,) in session.execute(select(Holder.name))}
    assert {each.name for each in statements} == names == {"Label", "Ada", "Bo", "Cy"}
    assert closed.statements == len(statements) == 4
    assert sum(each.recordings for each in statements) == recordings
    assert sum(each.works for each in statements) == works


def test_closing_again_changes_nothing(database: Database, model: Model, songs: list[str]) -> None:
    books.add(database, model.id, tracks(songs, 50, JANUARY))
    first = books.close(database, "2026-01")
    before, stated = counts(database), books.lines(database)
    books.add(database, model.id, tracks(songs, 5, JANUARY, seed=1))
    again = books.close(database, "2026-01")
    assert (again.closing.id, again.closing.closed_at) == (first.closing.id, first.closing.closed_at)
    assert (counts(database), books.lines(database)) == (before, stated)
    with reading(database) as session:
        (event,) = session.scalars(select(Event).where(Event.type == "statement.closed"))
    assert event.data == {"month": "2026-01", "statements": first.statements}


def test_several_who_close_at_once_close_once(database: Database, model: Model, songs: list[str]) -> None:
    posted = tracks(songs, 50, JANUARY)
    books.add(database, model.id, posted)
    with ThreadPoolExecutor(4) as pool:
        closed = list(pool.map(lambda _: books.close(database, "2026-01"), range(4)))
    assert len({each.closing.id for each in closed}) == 1
    assert {each.statements for each in closed} == {4}
    assert books.lines(database) == books.due(database, posted)


def test_the_same_track_sent_twice_is_one_track(db: Database, settings: Settings, clock: Clock) -> None:
    registered.register(db)
    books.give(db, f"{TENANT}-one", right("Label", "label", 1))
    for name in ("render-1", "render-1", "render-2"):
        ident = registered.queue_one(db, settings, external_id=name)
        with transaction(db) as session:
            held = lease.take(session, attribution_id=ident, worker_id=new_id(), settings=settings)
            assert held is not None
        with transaction(db) as session:
            assert lease.complete(session, claim=held, outcome=registered.outcome())
    clock.forward(40 * 86_400)
    books.close(db, "2026-01")
    count, attributed, recordings, _ = books.totals(db, "2026-01")
    assert count == 2
    assert attributed == pytest.approx(2 * 0.6 * UNIT, abs=10)
    assert recordings == pytest.approx(2 * 0.2 * UNIT, abs=10)


def test_a_month_is_that_of_utc(database: Database, model: Model, songs: list[str]) -> None:
    ends = [JANUARY - INSTANT, JANUARY, FEBRUARY - INSTANT, FEBRUARY]
    books.add(database, model.id, [Track(end, {songs[0]: 0.5}) for end in ends])
    for month in ("2025-12", "2026-01", "2026-02"):
        books.close(database, month)
    assert [books.totals(database, month)[0] for month in ("2025-12", "2026-01", "2026-02")] == [1, 2, 1]


def test_a_result_that_sums_to_more_than_one_counts_as_one(database: Database, model: Model, songs: list[str]) -> None:
    books.add(database, model.id, [Track(JANUARY, {songs[0]: 0.75075, songs[1]: 0.25025})])
    books.close(database, "2026-01")
    count, attributed, *_ = books.totals(database, "2026-01")
    assert count * UNIT - 10 <= attributed <= count * UNIT


def test_an_empty_month_is_closed_too(database: Database) -> None:
    closed = books.close(database, "2026-01")
    assert (closed.statements, [row.tracks for row in closed.totals]) == (0, [0])


def test_late_results_correct_the_month_that_they_belong_to(database: Database, model: Model, songs: list[str]) -> None:
    early, late, next_ones = tracks(songs, 40, JANUARY), tracks(songs, 9, JANUARY, 1), tracks(songs, 20, FEBRUARY, 2)
    books.add(database, model.id, early)
    books.close(database, "2026-01")
    stated = books.lines(database)
    books.add(database, model.id, [*late, *next_ones])
    closed = books.close(database, "2026-02")
    assert [row.month for row in closed.totals] == ["2026-02", "2026-01"]
    assert books.lines(database, "2026-01") == books.due(database, [*early, *late])
    assert books.lines(database, "2026-02") == books.due(database, next_ones)
    with reading(database) as session:
        first = session.scalars(select(StatementLine).join(Closing).where(Closing.month == "2026-01")).all()
        assert sum(line.amount for line in first) == sum(stated.values())
        months = set(session.scalars(select(StatementLine.month).join(Closing).where(Closing.month == "2026-02")))
    assert months == {"2026-01", "2026-02"}
    assert books.totals(database, "2026-01")[0] == sum(track.counted for track in [*early, *late])


def test_changed_rights_move_what_was_stated_by_lines_that_take_and_give(
    database: Database, model: Model, songs: list[str]
) -> None:
    posted = tracks(songs, 40, JANUARY)
    books.add(database, model.id, posted)
    books.close(database, "2026-01")
    books.give(
        database, songs[0], right("Label", "label", 0.25), right("New", "label", 0.5), right("Bo", "composer", 1)
    )
    books.close(database, "2026-02")
    assert books.lines(database, "2026-01") == books.due(database, posted)
    count, attributed, recordings, works = books.totals(database, "2026-01")
    assert (recordings, works) == books.by_side(books.lines(database))
    assert recordings <= attributed <= count * UNIT
    with reading(database) as session:
        moved = session.scalars(select(StatementLine).join(Closing).where(Closing.month == "2026-02")).all()
    assert {line.month for line in moved} == {"2026-01"}
    assert {line.song_id for line in moved} == {songs[0]}
    assert sorted(line.amount > 0 for line in moved) == [False, False, True, True]
    assert books.close(database, "2026-03").statements == 0


def uphold(database: Database, track: Track, song: str, outcome: DisputeOutcome = DisputeOutcome.UPHELD) -> None:
    with transaction(database) as session:
        made = disputes.raise_one(
            session, tenant_id=TENANT, attribution_id=track.id, objection=Objection(song, "Ada", "not mine")
        )
        disputes.resolve(
            session,
            tenant_id=TENANT,
            attribution_id=track.id,
            dispute_id=made.id,
            review=Review(outcome, "Reviewer", "heard both"),
        )


def test_an_upheld_dispute_takes_a_row_out_once(database: Database, model: Model, songs: list[str]) -> None:
    posted = [Track(JANUARY + timedelta(days=day), {songs[0]: 0.5, songs[1]: 0.25}) for day in range(6)]
    books.add(database, model.id, posted)
    uphold(database, posted[0], songs[0])  # before closing
    uphold(database, posted[1], songs[1], DisputeOutcome.REJECTED)
    books.close(database, "2026-01")
    posted[0].shares = {songs[1]: 0.25}
    assert books.lines(database) == books.due(database, posted)
    uphold(database, posted[2], songs[1])  # after closing
    uphold(database, posted[3], songs[0])
    for month in ("2026-02", "2026-03"):
        books.close(database, month)
    posted[2].shares, posted[3].shares = {songs[0]: 0.5}, {songs[1]: 0.25}
    assert books.lines(database, "2026-01") == books.lines(database) == books.due(database, posted)
    count, attributed, *_ = books.totals(database, "2026-01")
    assert (count, attributed) == (6, int((4 * 0.5 + 5 * 0.25) * UNIT))


def test_months_are_closed_when_they_are_over_and_in_their_order(
    db: Database, clock: Clock, settings: Settings
) -> None:
    model_id = registered.register(db)
    clock.moment = FEBRUARY - INSTANT
    with pytest.raises(MonthOpen, match="2026-02-01"):
        books.close(db, "2026-01")
    clock.moment = MARCH
    books.add(db, model_id, [Track(JANUARY, {f"{TENANT}-one": 0.5})])
    with pytest.raises(MonthOpen, match="2026-01 is not closed"):
        books.close(db, "2026-02")
    books.close(db, "2026-01")
    books.close(db, "2026-02")
    with pytest.raises(MonthPassed, match="2026-02"):
        books.close(db, "2025-12")


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-1", "26-01", "2026-01-01", "0000-01", "9999-12", "x"])
def test_what_is_no_month_is_refused(database: Database, month: str) -> None:
    with pytest.raises(InvalidRequest):
        books.close(database, month)


@pytest.mark.parametrize(
    "change", ["statements SET recordings = 0", "statement_lines SET amount = 0", "closings SET month = 'x'"]
)
def test_the_database_itself_lets_nobody_edit_what_is_closed(
    database: Database, model: Model, songs: list[str], change: str
) -> None:
    books.add(database, model.id, tracks(songs, 3, JANUARY))
    books.close(database, "2026-01")
    with pytest.raises(DatabaseError, match="stays as it is"), transaction(database) as session:
        session.execute(text(f"UPDATE {change}"))


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "0.000000000000"), (1, "0.000000000001"), (-1, "-0.000000000001"), (-UNIT * 3 // 2, "-1.500000000000")],
)
def test_amounts_are_written_exactly(amount: int, shown: str) -> None:
    assert decimal(amount) == shown
