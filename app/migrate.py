"""The schema brought up to date by Alembic, from any folder and in an installed package too."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import migrations
from app.db import answering, engines, reading

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.schema import SchemaItem

    from app.config import Settings
    from app.db import Database

LOCK_NUMBER = 0x726F6F74


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Bring the schema up to `revision`; several processes may try at once. Raises DatabaseUnavailable."""
    _run(settings, revision, up=True)


def downgrade(settings: Settings, revision: str = "base") -> None:
    """Take the schema back to `revision`, "base" meaning no tables at all. Raises DatabaseUnavailable."""
    _run(settings, revision, up=False)


def is_current(db: Database) -> bool:
    """Whether every migration has been applied; raises DatabaseUnavailable."""
    with reading(db) as session:
        found = MigrationContext.configure(session.connection()).get_current_heads()
    return set(found) == _heads()


@lru_cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory.from_config(_config()).get_heads())


def belongs(connection: Connection, thing: SchemaItem, *_: object) -> bool:
    """Whether a part of the schema exists in this kind of database; autogenerate does not ask."""
    return bool(thing.info.get("dialect", connection.dialect.name) == connection.dialect.name)


def lock(connection: Connection) -> None:
    """Hold the database against others who ask for the same, until the connection's transaction ends.

    On SQLite a transaction that can write is alone already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER})


def _run(settings: Settings, revision: str, *, up: bool) -> None:
    db = engines(settings)
    try:
        with answering(), db.write.begin() as connection:
            lock(connection)
            config = _config()
            config.attributes |= {"connection": connection, "up": up}
            (command.upgrade if up else command.downgrade)(config, revision)
    finally:
        db.close()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return config
