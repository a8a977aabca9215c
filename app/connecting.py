"""Connections to Postgres and to SQLite: how each is opened, begins its transactions and is known to be alive."""

from __future__ import annotations

import math
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

from app.acting import at_once
from app.errors import DatabaseUnavailable
from app.terse import terse

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
    from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS = 10.0
TRUSTED_SECONDS = 1.0  # a connection that was used within this time is taken to be open still
_LEFT = "left"
_PAUSE_SECONDS = 0.01


def postgres(url: URL, options: dict[str, Any], *, read_only: bool = False) -> Engine:
    """Return an engine for Postgres; a read-only one sees one moment and cannot write. Its errors are terse."""
    engine = create_engine(url, connect_args={"connect_timeout": 5}, **options)

    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level, connection.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True

    def left(_: object, record: ConnectionPoolEntry) -> None:
        record.info[_LEFT] = time.monotonic()

    def taken(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
        # A server that was restarted closes its connections: those at rest are asked first, busy ones know.
        if time.monotonic() - record.info.get(_LEFT, math.inf) > TRUSTED_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except psycopg.Error as error:
                raise DisconnectionError from error

    if read_only:
        event.listen(engine, "connect", prepare)
        event.listen(engine, "do_execute", at_once)
    event.listen(engine, "handle_error", terse)
    event.listen(engine, "checkin", left)
    event.listen(engine, "checkout", taken)
    return engine


def make_folder(folder: Path) -> None:
    """Create the folder that a SQLite file lies in. Raises DatabaseUnavailable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnavailable(f"{folder} cannot be created") from error


def sqlite(url: URL, begin: str, options: dict[str, Any], *, read_only: bool = False) -> Engine:
    """Return an engine for a SQLite file whose transactions start with the statement `begin`."""
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, **options)

    def prepare(connection: DBAPIConnection, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is neither immediate nor before reads
        cursor = connection.cursor()
        _keep_ahead_log(cursor)
        pragmas = ["synchronous = FULL", "foreign_keys = ON"]
        for pragma in [*pragmas, "query_only = ON"] if read_only else pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _keep_ahead_log(cursor: DBAPICursor) -> None:
    """Turn a file to write-ahead logging; where several do so to a new file at once, SQLite waits for none of them."""
    limit = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > limit:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
