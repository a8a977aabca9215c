"""A row in every table of whatever schema a database has, by what the database says of itself."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Boolean, Column, DateTime, Float, Integer, MetaData, String, Table, func, inspect, select
from sqlalchemy.exc import IntegrityError

if TYPE_CHECKING:
    from sqlalchemy import Connection

KEPT = {"alembic_version", "tenants"}
"""Tables that have their rows already."""
MOMENT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def fill(connection: Connection) -> None:
    """Put one row into every table that has none; a table that refuses it is an error."""
    for table in schema(connection).sorted_tables:
        if table.name not in KEPT and not connection.scalar(select(func.count()).select_from(table)):
            _insert(connection, table)


def counts(connection: Connection) -> dict[str, int]:
    """How many rows each table holds."""
    tables = (table for table in schema(connection).sorted_tables if table.name != "alembic_version")
    return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def schema(connection: Connection) -> MetaData:
    """The tables as they are."""
    found = MetaData()
    found.reflect(connection)
    return found


def _insert(connection: Connection, table: Table) -> None:
    """Every column filled; where a rule stands against that, only those that must be, or these and one more."""
    words = _words(connection, table.name)
    full = {column.name: _value(connection, column, words) for column in table.columns}
    bare = {name: value for name, value in full.items() if not table.columns[name].nullable}
    told = {name: value for name, value in full.items() if value is not None}
    more = ({name: value} for name, value in told.items() if name not in bare)
    for values in (told, bare, *(bare | one for one in more)):
        with suppress(IntegrityError), connection.begin_nested():
            connection.execute(table.insert().values(values))
            return
    raise AssertionError(f"{table.name} takes no row")


def _words(connection: Connection, table: str) -> dict[str, str]:
    """For each column that is held to some words, the first of them."""
    rules = " ".join(rule["sqltext"] for rule in inspect(connection).get_check_constraints(table))
    found = re.findall(r"\(*(\w+)\)*(?:::\w+)? (?:IN \(|= ANY \(+ARRAY\[)'(\w+)'", rules)
    return dict(found)


def _value(connection: Connection, column: Column[Any], words: dict[str, str]) -> Any:
    if column.foreign_keys:
        (key,) = column.foreign_keys
        return connection.scalar(select(key.column).limit(1))
    if column.name in words:
        return words[column.name]
    kinds = ((Boolean, False), (DateTime, MOMENT), (JSON, {}), (Integer, 1), (Float, 0.5), (String, f"a {column.name}"))
    value = next((value for kind, value in kinds if isinstance(column.type, kind)), None)
    length = getattr(column.type, "length", None)
    return value[:length] if isinstance(value, str) and length else value
