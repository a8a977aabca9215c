"""Row-level security underneath: on Postgres, no query sees another tenant's rows, whatever its author forgot."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.exc import ProgrammingError

from app import isolation, words
from app.acting import HOLDER_ROLE, NOBODY, SYSTEM, TENANT_ROLE, Acting
from app.catalogue import service as catalogue
from app.catalogue.service import SongFilter
from app.db import Base, reading, transaction
from app.models import DEFAULT_TENANT, ApiKey, Attribution, AuditEntry, Holder, Model, Right, Song, Tenant, TrainingSong
from tests.app.here import make_key
from tests.app.registered import queue_one, register

POSTGRES = pytest.mark.parametrize("database_settings", ["postgres"], indirect=True)
pytestmark = POSTGRES
OURS, THEIRS = DEFAULT_TENANT, "theirs"


def of(database, tenant_id, **more):
    return database.on_behalf_of(Acting(tenant_id=tenant_id, **more))


@pytest.fixture
def two(database, settings):
    """The database with rows of two tenants in it."""
    for tenant in (OURS, THEIRS):
        register(database, tenant_id=tenant)
        with transaction(database) as session:
            session.add(Holder(id=f"{tenant}-holder", tenant_id=tenant, name="p", name_plain="p", words=["p"]))
            session.flush()
            held = {"song_id": f"{tenant}-one", "holder_id": f"{tenant}-holder"}
            session.add(Right(tenant_id=tenant, party="p", role="label", share=1.0, **held))
    return database


def everything(session):
    """Every row of every table that a tenant owns, as a careless query would see it."""
    found = {}
    for table in Base.metadata.sorted_tables:
        if "tenant_id" in table.columns and table.name != "api_keys":
            found[table.name] = {row.tenant_id for row in session.execute(select(table.c.tenant_id))}
    return found


def test_a_query_without_a_tenant_finds_one_s_own_alone(two):
    with reading(two) as session:
        assert set().union(*everything(session).values()) == {OURS, THEIRS}
    for tenant in (OURS, THEIRS):
        with reading(of(two, tenant)) as session:
            assert set().union(*everything(session).values()) == {tenant}
            assert session.scalars(select(Tenant.id)).all() == [tenant]


def test_who_says_nothing_sees_nothing(two):
    with reading(two.on_behalf_of(NOBODY)) as session:
        assert set().union(*everything(session).values()) == set()
        assert session.scalars(select(Tenant.id)).all() == []


def test_nobody_s_rights_outlive_a_transaction(two):
    with reading(of(two, OURS)) as session:
        assert session.scalars(select(Song.id)).all()
        session.rollback()
        assert {row.tenant_id for row in session.scalars(select(Song))} == {OURS}
    with two.read.connect() as connection:
        assert connection.scalar(text("SELECT current_user")) != TENANT_ROLE
        assert not connection.scalar(text("SELECT current_setting('rootnote.tenant', true)"))


@pytest.mark.parametrize("change", ["insert", "update", "delete"])
def test_rows_of_others_are_neither_written_nor_changed(two, change):
    statements = {
        "insert": insert(Song).values(
            id="x", tenant_id=THEIRS, key="x", title="t", artist="a", licence="", training_policy="allow"
        ),
        "update": text("UPDATE songs SET title = 'stolen' WHERE tenant_id = 'theirs'"),
        "delete": text("DELETE FROM training_songs WHERE tenant_id = 'theirs'"),
    }
    if change == "insert":
        with pytest.raises(ProgrammingError, match="row-level security"), transaction(of(two, OURS)) as session:
            session.execute(statements[change])
        return
    with transaction(of(two, OURS)) as session:
        assert session.execute(statements[change]).rowcount == 0
    with reading(two) as session:
        assert "stolen" not in session.scalars(select(Song.title)).all()
        assert len(session.scalars(select(TrainingSong).where(TrainingSong.tenant_id == THEIRS)).all()) == 3


def test_a_row_cannot_be_handed_to_another_tenant(two):
    with pytest.raises(ProgrammingError, match="row-level security"), transaction(of(two, OURS)) as session:
        session.execute(text("UPDATE songs SET tenant_id = 'theirs'"))


def test_keys_are_no_tenant_s_to_read(two):
    make_key(two, OURS)
    with pytest.raises(ProgrammingError, match="permission denied"), reading(of(two, OURS)) as session:
        session.scalars(select(ApiKey.id)).all()


def test_the_roles_can_do_no_more_than_they_must(two):
    with reading(two) as session:
        rows = session.execute(
            text("SELECT rolname, rolsuper, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = ANY(:names)"),
            {"names": list(isolation.ROLES)},
        ).all()
    assert {row.rolname for row in rows} == {TENANT_ROLE, HOLDER_ROLE}
    assert not any(row.rolsuper or row.rolbypassrls or row.rolcanlogin for row in rows)


def test_every_table_that_a_tenant_owns_is_held(two):
    with reading(two) as session:
        secured = set(session.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity")))
        tables = inspect(session.connection())
        owned = {
            name
            for name in tables.get_table_names()
            if "tenant_id" in {column["name"] for column in tables.get_columns(name)}
        }
    assert owned <= secured
    assert "songs" in owned


def test_a_start_that_changes_nothing_leaves_the_policies_alone(two):
    def oids(connection):
        return connection.execute(text("SELECT oid, polname FROM pg_policy ORDER BY oid")).all()

    with two.write.begin() as connection:
        before = oids(connection)
        isolation.hold(connection)
        assert oids(connection) == before
        isolation.release(connection)
        assert oids(connection) == []
        isolation.hold(connection)
        assert len(oids(connection)) == len(before)


def test_words_are_found_in_one_s_own_songs_page_by_page(two):
    with transaction(two) as session:
        for tenant in (OURS, THEIRS):
            for number in range(5):
                song = {"key": f"w{number}", "title": f"Wander {number}", "artist": "A"}
                session.add(Song(id=f"{tenant}-w{number}", tenant_id=tenant, **song))
    with reading(of(two, OURS)) as session:
        found, cursor = [], None
        while True:
            wanted = SongFilter(q="wand")
            page = catalogue.page(session, tenant_id=OURS, wanted=wanted, cursor=cursor, limit=2)
            found += [song.id for song in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert found == [f"{OURS}-w{number}" for number in range(5)]


def test_a_search_for_words_uses_their_index(two):
    with transaction(two) as session:
        rows = [
            {"id": f"m{number:06}", "tenant_id": OURS, "key": f"m{number}", "title": f"T{number}", "artist": "A"}
            for number in range(3000)
        ]
        session.execute(insert(Song), [row | {"words": [f"word{row['key']}"]} for row in rows])
        session.execute(text("ANALYZE songs"))
    scans = text("SELECT pg_stat_get_xact_numscans('ix_songs_words'::regclass)")
    with reading(of(two, OURS)) as session:
        plain = select(Song.id).where(words.holding(session, Song.words, ["wordm2999"]))
        assert session.scalars(plain).all() == ["m002999"]
        assert session.scalar(scans) == 0, "the index may be asked under row-level security: the function can go"
        page = catalogue.page(session, tenant_id=OURS, wanted=SongFilter(q="wordm2999"))
        assert [song.id for song in page.items] == ["m002999"]
        assert session.scalar(scans) == 1


def test_the_system_sees_all_because_it_says_so(two, settings):
    ident = queue_one(two.on_behalf_of(SYSTEM), settings, tenant_id=THEIRS)
    with reading(of(two, OURS)) as session:
        assert session.get(Attribution, ident) is None
        assert session.scalars(select(Model.tenant_id)).all() == [OURS]
    with reading(two) as session:
        assert session.get(Attribution, ident) is not None


def test_a_tenant_adds_to_the_audit_log_and_changes_nothing_in_it(two):
    entry = {"actor": "key", "action": "a", "outcome": "done"}
    with transaction(of(two, OURS)) as session:
        session.add(AuditEntry(tenant_id=OURS, **entry))
    with pytest.raises(ProgrammingError, match="permission denied"), transaction(of(two, OURS)) as session:
        session.execute(text("DELETE FROM audit"))
