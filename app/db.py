"""The database: its types, the one commit, and every branch between SQLite and Postgres but connecting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from sqlalchemy import (
    JSON,
    ColumnElement,
    DateTime,
    Engine,
    Float,
    MetaData,
    String,
    TypeDecorator,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session

from app.acting import SYSTEM, Acting, ActingSession
from app.connecting import make_folder, postgres, sqlite
from app.errors import DatabaseBusy, DatabaseUnavailable

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect

    from app.config import Settings

Hook = Callable[[], object]
_HOOKS = "after_commit"
_NOW = "now"


def utcnow() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware in Python, always UTC in the database; a naive datetime is refused (ValueError)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; SQLite keeps no zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From UTC; SQLite kept no zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
"""A JSON column; NaN and infinity are refused (ValueError)."""


class Base(DeclarativeBase):
    """Portable column types and predictable constraint names for every table."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it as a plain class attribute)
        datetime: UtcDateTime,
        dict[str, Any]: Json,
        list[dict[str, Any]]: Json,
        float: Float(53),
    }


@dataclass(frozen=True)
class Database:
    """A database: `write` for transactions, `read` for reading alone, as whom, and the clock that dates writing."""

    write: Engine
    read: Engine
    clock: Callable[[], datetime] = utcnow
    acting: Acting = SYSTEM

    def on_behalf_of(self, acting: Acting) -> Database:
        """Return the same database for somebody else."""
        return replace(self, acting=acting)

    def unaudited(self) -> Database:
        """Return the same database for the same one, for what is no deed of theirs."""
        return self.on_behalf_of(replace(self.acting, witness=None))

    def close(self) -> None:
        """Close every pooled connection."""
        self.write.dispose()
        self.read.dispose()


def engines(settings: Settings) -> Database:
    """The database of these settings, for the system, which sees every tenant; no connection is made yet.

    A SQLite file's folder is created; raises DatabaseUnavailable.
    """
    options: dict[str, Any] = {"json_serializer": partial(json.dumps, allow_nan=False), "json_deserializer": from_json}
    options |= {"hide_parameters": True, "max_overflow": 0}  # hidden, because errors are logged
    options |= {"pool_size": settings.database_connections, "pool_timeout": settings.database_wait_seconds}
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        return Database(postgres(url, options), postgres(url, options, read_only=True))
    if url.database:
        make_folder(Path(url.database).parent)
    return Database(sqlite(url, "BEGIN IMMEDIATE", options), sqlite(url, "BEGIN", options, read_only=True))


@contextmanager
def transaction(db: Database) -> Iterator[Session]:
    """One unit of work: commits at the end (the only commit there is), then runs what `after_commit` was given.

    An exception rolls everything back and drops the hooks. Hooks run with no connection held.
    Raises DatabaseUnavailable when the database does not answer.
    """
    with _session(db.write, db) as session:
        yield session
        if db.acting.witness is not None:
            db.acting.witness(session)
        session.commit()
        hooks: list[Hook] = session.info.pop(_HOOKS, [])
    for hook in hooks:
        hook()


@contextmanager
def reading(db: Database) -> Iterator[Session]:
    """A consistent view for reading; writing through it fails. Raises DatabaseUnavailable."""
    with _session(db.read, db) as session:
        yield session


@contextmanager
def answering() -> Iterator[None]:
    """Turn a database's silence into DatabaseUnavailable, and want of a connection into DatabaseBusy."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise (DatabaseBusy if isinstance(error, PoolTimeout) else DatabaseUnavailable) from error


@contextmanager
def _session(engine: Engine, db: Database) -> Iterator[Session]:
    with answering(), ActingSession(engine, acting=db.acting, info={_NOW: db.clock()}) as session:
        yield session


def bucket_start(session: Session, moment: InstrumentedAttribute[datetime], bucket: str) -> ColumnElement[str]:
    """The first day (UTC, as YYYY-MM-DD) of the day, week (from Monday) or month that `moment` lies in."""
    if session.get_bind().dialect.name == "sqlite":
        steps = {"day": (), "week": ("weekday 0", "-6 days"), "month": ("start of month",)}[bucket]
        # From the day alone: SQLite rounds to milliseconds, which can push an instant into the next week.
        return func.date(func.substr(moment, 1, 10), *steps, type_=String)
    return func.to_char(func.date_trunc(bucket, func.timezone("UTC", moment)), "YYYY-MM-DD", type_=String)


def after_commit(session: Session, hook: Hook) -> None:
    """Run `hook` once this session's transaction is committed; never, if it is rolled back."""
    session.info.setdefault(_HOOKS, []).append(hook)


def now(session: Session) -> datetime:
    """The instant of this transaction: the same for everything that it writes."""
    moment: datetime = session.info[_NOW]
    return moment
