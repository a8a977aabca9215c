"""Laws of the data layer, on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, StatementError

from app.config import Settings
from app.db import Database, after_commit, bucket_start, engines, now, reading, transaction
from app.errors import DatabaseUnavailable
from app.models import DEFAULT_TENANT, Model, Song, Tenant


def _tenant(ident: str) -> Tenant:
    return Tenant(id=ident, name=ident)


def _names(db: Database) -> set[str]:
    with reading(db) as session:
        return set(session.scalars(select(Tenant.id)))


def _song(**values: object) -> Song:
    return Song(tenant_id=DEFAULT_TENANT, title="t", artist="a", **values)


def test_what_a_transaction_writes_is_there_when_it_ends(database):
    with transaction(database) as session:
        session.add(_tenant("a"))
    assert _names(database) == {DEFAULT_TENANT, "a"}


def test_an_exception_leaves_nothing_and_rings_nobody(database):
    rung = []
    with pytest.raises(KeyError), transaction(database) as session:
        session.add(_tenant("a"))
        session.flush()
        after_commit(session, lambda: rung.append("a"))
        raise KeyError
    assert _names(database) == {DEFAULT_TENANT}
    assert rung == []


def test_hooks_run_in_order_after_the_commit_is_visible(database):
    seen = []
    with transaction(database) as session:
        session.add(_tenant("a"))
        after_commit(session, lambda: seen.append(_names(database)))
        after_commit(session, lambda: seen.append("second"))
        assert seen == []
    assert seen == [{DEFAULT_TENANT, "a"}, "second"]


def test_a_failing_commit_runs_no_hook(database):
    rung = []
    with pytest.raises(DBAPIError), transaction(database) as session:
        session.add(_tenant(DEFAULT_TENANT))
        after_commit(session, lambda: rung.append("a"))
    assert rung == []


def test_the_reading_engine_cannot_write(database):
    with pytest.raises((DBAPIError, DatabaseUnavailable)), reading(database) as session:
        session.execute(text("UPDATE tenants SET name = 'x'"))


def test_reading_sees_one_moment(database):
    with reading(database) as session:
        before = set(session.scalars(select(Tenant.id)))
        with transaction(database) as other:
            other.add(_tenant("a"))
        assert set(session.scalars(select(Tenant.id))) == before


def test_instants_come_back_aware_and_equal_whatever_their_zone(database):
    moment = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with transaction(database) as session:
        session.add(_song(id="s", key="k", created_at=moment))
    with reading(database) as session:
        found = session.scalars(select(Song.created_at)).one()
        assert session.scalars(select(Song.id).where(Song.created_at == moment)).one() == "s"
    assert found == moment
    assert found.tzinfo is UTC


def test_a_naive_instant_is_refused(database):
    with pytest.raises(StatementError, match="time zone"), transaction(database) as session:
        session.add(_song(key="k", created_at=datetime(2026, 1, 1)))


def test_numbers_that_are_not_finite_are_no_json(database):
    with pytest.raises((StatementError, ValueError)), transaction(database) as session:
        session.add(
            Model(
                tenant_id=DEFAULT_TENANT,
                name="m",
                folder="",
                model_digest="",
                index_digest="",
                segment_seconds=1.0,
                segments=0,
                songs=0,
                details={"x": float("nan")},
            )
        )


def test_foreign_keys_are_enforced(database):
    with pytest.raises(DBAPIError), transaction(database) as session:
        session.add(Song(tenant_id="nobody", key="k", title="t", artist="a"))


def test_relations_are_never_loaded_by_accident(database):
    with transaction(database) as session:
        session.add(_song(id="s", key="k"))
    with reading(database) as session:
        song = session.get_one(Song, "s")
        with pytest.raises(Exception, match="raise"):
            _ = song.rights


def test_read_then_write_from_many_threads_loses_no_update(database):
    with transaction(database) as session:
        session.add(_song(id="s", key="k", duration_s=0.0))

    def add() -> None:
        for _ in range(10):
            with transaction(database) as session:
                song = session.scalars(select(Song).with_for_update()).one()
                song.duration_s = (song.duration_s or 0.0) + 1.0

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(database) as session:
        assert session.scalars(select(Song.duration_s)).one() == 40.0


def test_a_transaction_has_one_time(database):
    with transaction(database) as session:
        assert now(session) is now(session)
        assert abs(now(session) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(
    "url", ["postgresql://nobody@127.0.0.1:1/nothing", "sqlite:////proc/nothing/at.db"], ids=["postgres", "sqlite"]
)
def test_a_database_that_is_not_there_is_a_typed_error(settings: Settings, url):
    with pytest.raises(DatabaseUnavailable):
        db = engines(settings.model_copy(update={"database_url": Settings(database_url=url).database_url}))
        with reading(db) as session:
            session.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    ("bucket", "first_day"), [("day", "2026-11-22"), ("week", "2026-11-16"), ("month", "2026-11-01")]
)
def test_buckets_begin_on_their_first_day_in_utc(database, bucket, first_day):
    late_on_sunday = datetime(2026, 11, 23, 1, 0, tzinfo=timezone(timedelta(hours=3)))
    with transaction(database) as session:
        session.add(_song(key="k", created_at=late_on_sunday))
    with reading(database) as session:
        assert session.scalars(select(bucket_start(session, Song.created_at, bucket))).one() == first_day


def test_a_monday_begins_its_own_week(database):
    with transaction(database) as session:
        session.add(_song(key="k", created_at=datetime(2026, 11, 16, tzinfo=UTC)))
    with reading(database) as session:
        assert session.scalars(select(bucket_start(session, Song.created_at, "week"))).one() == "2026-11-16"


def test_a_new_file_may_be_opened_from_many_threads_at_once(tmp_path):
    for number in range(20):
        settings = Settings(data_dir=tmp_path / str(number))
        databases = [engines(settings) for _ in range(6)]
        together = threading.Barrier(6)

        def opened(db: Database, together: threading.Barrier = together) -> str:
            together.wait()
            with db.write.begin() as connection:
                return connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(opened, databases)) == ["wal"] * 6
        for db in databases:
            db.close()
