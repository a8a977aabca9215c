"""The real migrations, on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from app import migrate
from app.db import Base, engines, reading, transaction
from app.models import DEFAULT_TENANT, Attribution, Holder, Influence, Right, Song, SongPolicy, Tenant

ROOT = Path(__file__).parents[2]
RESULT_OF_0001 = (
    "INSERT INTO songs (id, tenant_id, key, title, artist, licence, training_policy, created_at, updated_at)"
    " VALUES ('s', 'default', 'k', 't', 'a', '', 'allow', '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
    "INSERT INTO models (id, tenant_id, name, folder, model_digest, index_digest, segment_seconds, segments, songs,"
    " details, created_at) VALUES ('m', 'default', 'n', 'f', 'd', 'i', 1, 1, 1, '{}', '2026-01-01 00:00:00')",
    "INSERT INTO attributions (id, tenant_id, model_id, status, progress, method, top_k, audio_key, audio_sha256,"
    " audio_bytes, audio_facts, attempts, rings, reliability, timings, details, created_at, expires_at) VALUES ('a',"
    " 'default', 'm', 'succeeded', 1, 'index', 1, 'k', 'd', 1, '{}', 1, 0, '{}', '{}', '{}',"
    " '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
    "INSERT INTO influences (attribution_id, song_id, tenant_id, model_id, rank, score, share, percentile, check_delta,"
    " matches, created_at) VALUES ('a', 's', 'default', 'm', 1, 2.0, 0.5, 99.0, 0.25, '[]', '2026-01-01 00:00:00')",
)
BOTH = pytest.mark.parametrize("empty_database_settings", ["sqlite", "postgres"], indirect=True)


@BOTH
def test_tables_and_migrations_agree(empty_database_settings):
    migrate.upgrade(empty_database_settings)
    with closing(engines(empty_database_settings)) as db, db.read.connect() as connection:
        options = {"compare_server_default": True, "include_object": partial(migrate.belongs, connection)}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


@BOTH
def test_the_default_tenant_is_there_from_the_first_migration_on(empty_database_settings):
    migrate.upgrade(empty_database_settings)
    with closing(engines(empty_database_settings)) as db, reading(db) as session:
        assert session.scalars(select(Tenant.id)).all() == [DEFAULT_TENANT]


@BOTH
def test_down_removes_everything_even_with_data_and_up_works_again(empty_database_settings):
    settings = empty_database_settings
    migrate.upgrade(settings)
    with closing(engines(settings)) as db:
        with transaction(db) as session:
            song = Song(id="s", tenant_id=DEFAULT_TENANT, key="k", title="t", artist="a")
            session.add_all([song, Holder(id="h", tenant_id=DEFAULT_TENANT, name="p", name_plain="p", words=["p"])])
            session.flush()
            right = {"party": "p", "role": "author", "share": 1.0}
            session.add(Right(tenant_id=DEFAULT_TENANT, song_id="s", holder_id="h", **right))
        assert migrate.is_current(db)
    migrate.downgrade(settings)
    with closing(engines(settings)) as db:
        assert set(inspect(db.read).get_table_names()) <= {"alembic_version"}
        assert not migrate.is_current(db)
    migrate.upgrade(settings)
    with closing(engines(settings)) as db, reading(db) as session:
        assert session.scalars(select(Song.id)).all() == []


@BOTH
def test_results_of_the_first_schema_keep_their_check(empty_database_settings):
    settings = empty_database_settings
    migrate.upgrade(settings, "0001")
    with closing(engines(settings)) as db, db.write.begin() as connection:
        for statement in RESULT_OF_0001:
            connection.execute(text(statement))
    migrate.upgrade(settings)
    with closing(engines(settings)) as db, reading(db) as session:
        found = session.execute(select(Influence.check_mirrored, Influence.check_forward, Influence.share_low)).all()
        asked = session.execute(select(Attribution.provenance_verdict, Attribution.calibrated)).all()
    assert (found, asked) == ([(0.25, None, None)], [(None, None)])
    migrate.downgrade(settings, "0001")
    with closing(engines(settings)) as db, db.read.connect() as connection:
        assert connection.execute(text("SELECT check_delta, share FROM influences")).all() == [(0.25, 0.5)]


BEFORE_HOLDERS = "0008"
RIGHTS_BEFORE = (
    ("1", "Ada Lovelace", "00014107338", None),
    ("2", "A. Lovelace", "00014107338", "000000012281955X"),
    ("3", "Lovelace", None, "000000012281955X"),
    ("4", "Ada  LOVELACE", None, None),
    ("5", "Äda Lovelace", None, None),
    ("6", "Contradiction", "00052210040", "000000012281955X"),
)


@BOTH
def test_parties_of_earlier_rights_become_holders(empty_database_settings):
    settings = empty_database_settings
    migrate.upgrade(settings, BEFORE_HOLDERS)
    right = text(
        "INSERT INTO rights (id, tenant_id, song_id, party, role, ipi, isni, share)"
        " VALUES (:id, 'default', 's', :party, 'label', :ipi, :isni, 0.1)"
    )
    with closing(engines(settings)) as db, db.write.begin() as connection:
        connection.execute(text(RESULT_OF_0001[0]))
        for values in RIGHTS_BEFORE:
            connection.execute(right, dict(zip(("id", "party", "ipi", "isni"), values, strict=True)))
    migrate.upgrade(settings)
    with closing(engines(settings)) as db, reading(db) as session:
        of = dict(session.execute(select(Right.id, Right.holder_id)).all())
        numbers = {row.id: (row.ipi, row.isni) for row in session.execute(select(Holder.id, Holder.ipi, Holder.isni))}
    assert of["1"] == of["2"] == of["3"]
    assert of["4"] == of["5"]
    assert len(numbers) == len(set(of.values())) == 3
    assert numbers[of["1"]] == ("00014107338", "000000012281955X")
    assert (numbers[of["4"]], numbers[of["6"]]) == ((None, None), ("00052210040", None))
    migrate.downgrade(settings, BEFORE_HOLDERS)
    with closing(engines(settings)) as db, db.read.connect() as connection:
        kept = connection.execute(text("SELECT id, party, ipi, isni FROM rights ORDER BY id")).all()
    assert tuple(map(tuple, kept)) == RIGHTS_BEFORE


BEFORE_POLICIES = "0015"


@BOTH
def test_what_earlier_songs_allow_held_always(empty_database_settings):
    settings = empty_database_settings
    migrate.upgrade(settings, BEFORE_POLICIES)
    with closing(engines(settings)) as db, db.write.begin() as connection:
        connection.execute(text(RESULT_OF_0001[0]))
        connection.execute(text("UPDATE songs SET training_policy = 'block'"))
    migrate.upgrade(settings)
    with closing(engines(settings)) as db, reading(db) as session:
        stated = session.execute(select(SongPolicy.song_id, SongPolicy.policy, SongPolicy.valid_from)).all()
    assert stated == [("s", "block", None)]


@BOTH
def test_again_and_from_several_places_at_once_changes_nothing(empty_database_settings):
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(migrate.upgrade, empty_database_settings) for _ in range(3)]:
            done.result()
    migrate.upgrade(empty_database_settings)
    with closing(engines(empty_database_settings)) as db:
        assert migrate.is_current(db)


def test_the_command_line_of_alembic_works_too(settings):
    environment = os.environ | {"ROOTNOTE_DATA_DIR": str(settings.data_dir)}
    subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "pyproject.toml"), "upgrade", "head"],
        cwd=settings.data_dir,
        env=environment,
        check=True,
    )
    with closing(engines(settings)) as db:
        assert migrate.is_current(db)
