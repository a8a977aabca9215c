"""Settings, databases and brokers for tests. Whatever needs a database runs on SQLite and on Postgres."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, text

import app.models  # noqa: F401 (fills the metadata)
from app import migrate
from app.config import Settings
from app.db import Base, Database, engines, transaction
from app.models import DEFAULT_TENANT, Tenant
from tests import services
from tests.app.registered import Clock
from tests.services import Valkey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Everything in a folder of this test; nothing in it is started or migrated."""
    return Settings(data_dir=tmp_path)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with services.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> Iterator[str]:
    with services.postgres_database(postgres_server) as url:
        migrate.upgrade(Settings(database_url=url))
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate.upgrade(Settings(database_url=f"sqlite:///{file}"))
    return file


@pytest.fixture(params=["sqlite", "postgres"])
def database_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The settings of a migrated database that holds the default tenant and nothing else."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), settings.data_dir / "rootnote.db")
        return settings
    with_postgres = settings.model_copy(update={"database_url": request.getfixturevalue("migrated_postgres")})
    with closing(engines(with_postgres)) as db:
        _empty(db)
    return with_postgres


@pytest.fixture
def database(database_settings: Settings) -> Iterator[Database]:
    """That database, open."""
    with closing(engines(database_settings)) as db:
        yield db


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(database: Database, clock: Clock) -> Database:
    """That database, with a clock that stands still until told."""
    return replace(database, clock=clock)


@pytest.fixture
def empty_database_settings(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """The settings of a database without any table; parametrise it indirectly with "sqlite" or "postgres"."""
    if request.param == "sqlite":
        yield settings
        return
    with services.postgres_database(request.getfixturevalue("postgres_server")) as url:
        yield settings.model_copy(update={"database_url": url})


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """A running Valkey for the whole run; tests that kill or freeze one start their own."""
    with closing(Valkey()) as server:
        server.start()
        yield server


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """That Valkey, holding nothing."""
    with valkey_server.client() as broker:
        broker.flushall()
    return valkey_server


def _empty(db: Database) -> None:
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with transaction(db) as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))  # the audit log lets nobody empty it
        session.execute(text(f"TRUNCATE {names}"))
        session.execute(insert(Tenant).values(id=DEFAULT_TENANT, name="Default"))
