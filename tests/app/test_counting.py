"""A track counts once for each tenant and model, whoever is first, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from sqlalchemy import func, select, text

from app import migrate
from app.attributions import lease, service
from app.attributions.counting import counts_as
from app.catalogue import history
from app.db import engines, reading, transaction
from app.models import DEFAULT_TENANT, Attribution, Influence
from tests.app.registered import KEYS, outcome, queue_one, register


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


def _finish(db, settings, ident):
    with transaction(db) as session:
        claim = lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
    with transaction(db) as session:
        assert lease.complete(session, claim=claim, outcome=outcome())
    return _counted(db, ident)


def _counted(db, ident):
    with reading(db) as session:
        row = service.get(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)
        influences = set(session.scalars(select(Influence.counted).where(Influence.attribution_id == ident)))
    assert influences == {row.counted}
    return row.counted


def _track_counts(db):
    wanted = history.Wanted(f"{DEFAULT_TENANT}-one")
    with reading(db) as session:
        points = history.series(session, tenant_id=DEFAULT_TENANT, wanted=wanted, bucket="day")
    return sum(point.attributions for point in points), sum(point.share_sum for point in points)


@pytest.mark.parametrize("name", [None, "render-77"])
def test_the_first_to_succeed_counts_and_later_ones_are_only_listed(db, settings, name):
    register(db)
    first, second = (queue_one(db, settings, external_id=name) for _ in range(2))
    assert _finish(db, settings, second)
    assert not _finish(db, settings, first)
    assert _track_counts(db) == (1, pytest.approx(0.2))
    with reading(db) as session:
        wanted = history.Wanted(f"{DEFAULT_TENANT}-one")
        rows = history.page(session, tenant_id=DEFAULT_TENANT, wanted=wanted).items
    assert {row.attribution_id: row.counted for row in rows} == {first: False, second: True}


def test_both_methods_and_every_version_of_a_model_count_as_one(db, settings):
    register(db)
    assert _finish(db, settings, queue_one(db, settings, external_id="a"))
    assert not _finish(db, settings, queue_one(db, settings, external_id="a", method="unlearn"))
    register(db, digest="i2")
    assert not _finish(db, settings, queue_one(db, settings, external_id="a"))
    assert _track_counts(db) == (1, pytest.approx(0.2))


def test_an_attribution_again_does_not_count_again(db, settings):
    register(db)
    first = queue_one(db, settings)
    assert _finish(db, settings, first)
    with transaction(db) as session:
        again = service.repeat(session, tenant_id=DEFAULT_TENANT, attribution_id=first, settings=settings).id
    assert not _finish(db, settings, again)


def test_other_names_other_models_and_other_tenants_count_each(db, settings):
    register(db)
    register(db, name="second")
    register(db, tenant_id="other")
    assert _finish(db, settings, queue_one(db, settings, external_id="a"))
    assert _finish(db, settings, queue_one(db, settings, external_id="b"))
    assert _finish(db, settings, queue_one(db, settings))
    assert _finish(db, settings, queue_one(db, settings, external_id="a", model="second"))
    theirs = queue_one(db, settings, tenant_id="other", external_id="a")
    with transaction(db) as session:
        claim = lease.take(session, attribution_id=theirs, worker_id="w", settings=settings)
    with transaction(db) as session:
        lease.complete(session, claim=claim, outcome=outcome())
        assert session.scalar(select(Attribution.counted).where(Attribution.id == theirs))


def test_a_name_is_never_taken_for_a_digest():
    assert counts_as("m", "abc", "abc") != counts_as("m", None, "abc")
    assert counts_as("m", "", "abc") == counts_as("m", None, "abc")
    assert counts_as("a", "b", "c") == counts_as("a", "b", "d")


def test_one_that_failed_leaves_the_count_to_the_next(db, settings):
    register(db)
    first, second = queue_one(db, settings), queue_one(db, settings)
    with transaction(db) as session:
        service.cancel(session, tenant_id=DEFAULT_TENANT, attribution_id=first)
    assert _finish(db, settings, second)


def test_when_many_end_at_once_every_one_succeeds_and_one_counts(database, settings):
    register(database)
    idents = [queue_one(database, settings, external_id="same") for _ in range(8)]
    claims = []
    for ident in idents:
        with transaction(database) as session:
            claims.append(lease.take(session, attribution_id=ident, worker_id="w", settings=settings))
    together = Barrier(4)

    def end(claim):
        together.wait()
        with transaction(database) as session:
            return lease.complete(session, claim=claim, outcome=outcome())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(end, claims))
    with reading(database) as session:
        counts = select(func.count()).select_from(Attribution).where(Attribution.counted)
        assert session.scalar(counts) == 1
        assert session.scalar(select(func.count()).select_from(Influence).where(Influence.counted)) == len(KEYS)


TRACK = (
    "INSERT INTO attributions (id, tenant_id, model_id, status, progress, method, external_id, top_k, audio_key,"
    " audio_sha256, audio_bytes, audio_facts, attempts, rings, reliability, timings, details, created_at, finished_at,"
    " expires_at) VALUES (:id, 'default', 'm', :status, 1, 'index', :name, 1, 'k', 'd', 1, '{}', 1, 0, '{}', '{}',"
    " '{}', '2026-01-01 00:00:00', :at, '2026-01-01 00:00:00')"
)
BEFORE = (
    "INSERT INTO songs (id, tenant_id, key, title, artist, licence, training_policy, created_at, updated_at)"
    " VALUES ('s', 'default', 'k', 't', 'a', '', 'allow', '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
    "INSERT INTO models (id, tenant_id, name, folder, model_digest, index_digest, segment_seconds, segments, songs,"
    " details, created_at) VALUES ('m', 'default', 'n', 'f', 'd', 'i', 1, 1, 1, '{}', '2026-01-01 00:00:00')",
)
INFLUENCE = (
    "INSERT INTO influences (attribution_id, song_id, tenant_id, model_id, rank, score, share, percentile, matches,"
    " created_at) VALUES (:id, 's', 'default', 'm', 1, 2.0, 0.5, 99.0, '[]', '2026-01-01 00:00:00')"
)
TRACKS = {
    "late": ("succeeded", "x", "2026-01-03 00:00:00"),
    "first": ("succeeded", "x", "2026-01-02 00:00:00"),
    "nameless": ("succeeded", None, "2026-01-02 00:00:00"),
    "again": ("succeeded", None, "2026-01-04 00:00:00"),
    "failed": ("failed", "y", "2026-01-02 00:00:00"),
}


@pytest.mark.parametrize("empty_database_settings", ["sqlite", "postgres"], indirect=True)
def test_results_from_before_count_once_too(empty_database_settings):
    settings = empty_database_settings
    migrate.upgrade(settings, "0004")
    with closing(engines(settings)) as db, db.write.begin() as connection:
        for statement in BEFORE:
            connection.execute(text(statement))
        for ident, (status, name, at) in TRACKS.items():
            connection.execute(text(TRACK), {"id": ident, "status": status, "name": name, "at": at})
            connection.execute(text(INFLUENCE), {"id": ident})
    migrate.upgrade(settings)
    with closing(engines(settings)) as db, reading(db) as session:
        for table, ident in ((Attribution, Attribution.id), (Influence, Influence.attribution_id)):
            assert set(session.scalars(select(ident).where(table.counted))) == {"first", "nameless"}
        assert len(set(session.scalars(select(Attribution.counts_as)))) == 3
    migrate.downgrade(settings, "0004")
    migrate.upgrade(settings)
