"""Row-level security on Postgres: roles, what they may touch, and which rows, brought up to date after every migration.

Every table with a `tenant_id` is held to the tenant that the transaction names, also one that a later migration adds;
a transaction that names none finds nothing. A rights-holder's transactions see few tables, few of their columns, and of
those only what belongs to the songs that it holds shares in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text
from sqlalchemy.exc import ProgrammingError

from app.acting import HOLDER_ROLE, HOLDER_SETTING, TENANT_ROLE, TENANT_SETTING
from app.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

ROLES = (TENANT_ROLE, HOLDER_ROLE)
_TENANT = f"current_setting('{TENANT_SETTING}', true)"
_HOLDER = f"current_setting('{HOLDER_SETTING}', true)"
_HELD = "song_id IN (SELECT song_id FROM rights)"  # the policy of `rights` leaves the holder's own
_FOUND = "EXISTS (SELECT FROM influences WHERE influences.attribution_id = attributions.id)"
_ROW = (
    "EXISTS (SELECT FROM influences"
    " WHERE influences.attribution_id = disputes.attribution_id AND influences.song_id = disputes.song_id)"
)
_TRACK = "id, tenant_id, model_id, method, external_id, filename, counted, created_at"

_SEARCH = "rootnote_holding"
_ANYTHING = "SELECT, INSERT, UPDATE, DELETE"
_TENANTS_OWN = {"api_keys": "", "audit": "SELECT, INSERT", "tenants": "SELECT"}
"""What a tenant's transactions may do to some tables; with all others they do as they like."""
_SHARED = {"report_keys": "SELECT, INSERT"}
"""What everybody may do to tables that belong to no tenant; they are not told what is in the others."""
_HOLDERS = {
    "rights": ("SELECT", f"holder_id = {_HOLDER}"),
    "songs": ("SELECT", _HELD.replace("song_id IN", "id IN")),
    "influences": ("SELECT", _HELD),
    "attributions": (f"SELECT ({_TRACK})", _FOUND),
    "models": ("SELECT (id, tenant_id, name)", "true"),
    "holders": ("SELECT", f"id = {_HOLDER}"),
    "statements": ("SELECT", f"holder_id = {_HOLDER}"),
    "statement_lines": ("SELECT", f"holder_id = {_HOLDER}"),
    "closing_totals": ("SELECT", "closing_id IN (SELECT closing_id FROM statements)"),
    "closings": ("SELECT", "id IN (SELECT closing_id FROM statements)"),
    "tenants": ("SELECT", "true"),
    "disputes": ("SELECT, INSERT", _ROW),
    "audit": ("INSERT", f"actor = 'holder ' || {_HOLDER}"),
}
"""What a rights-holder's transactions may do, and to which of the tenant's rows; to no other table anything."""


class RolesMissing(Conflict):
    """The login of the service may not create the roles that row-level security needs."""

    type, title = "roles-missing", "The database lacks two roles"


@dataclass(frozen=True)
class Policy:
    """Which rows of a table a role sees and writes, and what it may do to them; named by all of that."""

    table: str
    role: str
    grant: str
    rows: str

    @property
    def name(self) -> str:
        """A name that another policy would not have."""
        said = "|".join((self.grant, self.rows))
        return f"{self.role}_{hashlib.sha256(said.encode()).hexdigest()[:12]}"

    def statements(self) -> Iterator[str]:
        """Yield what puts it in force."""
        yield f"ALTER TABLE {self.table} ENABLE ROW LEVEL SECURITY"
        yield f"REVOKE ALL ON {self.table} FROM {self.role}"
        yield f"CREATE POLICY {self.name} ON {self.table} TO {self.role} USING ({self.rows})"
        if self.grant:
            yield f"GRANT {self.grant} ON {self.table} TO {self.role}"


def release(connection: Connection) -> None:
    """Drop every policy, so that migrations may change what they name; without one, nobody but the owner sees a row."""
    for table, name in _present(connection):
        connection.execute(text(f"DROP POLICY {name} ON {table}"))


def hold(connection: Connection) -> None:
    """Put the policies of all tables in force; where they are already, touch nothing. Raises RolesMissing."""
    wanted = {(each.table, each.name): each for each in _wanted(connection)}
    if not wanted or _present(connection) == wanted.keys():
        return
    _roles(connection)
    release(connection)
    if connection.scalar(text(f"SELECT to_regproc('{_SEARCH}')")) is not None:
        connection.execute(text(f"GRANT EXECUTE ON FUNCTION {_SEARCH} TO {TENANT_ROLE}"))
    for policy in wanted.values():
        for statement in policy.statements():
            connection.execute(text(statement))


def _wanted(connection: Connection) -> Iterator[Policy]:
    tables = inspect(connection)
    names = [name for name in tables.get_table_names() if name != "alembic_version"]
    columns = {name: {each["name"] for each in tables.get_columns(name)} for name in names}
    for name in names:
        if name in _SHARED:
            yield from (Policy(name, role, _SHARED[name], "true") for role in ROLES)
        own = "id" if name == "tenants" else "tenant_id"
        if own in columns[name]:
            mine = f"{own} = {_TENANT}"
            yield Policy(name, TENANT_ROLE, _TENANTS_OWN.get(name, _ANYTHING), mine)
            if name in _HOLDERS and "holder_id" in columns["rights"]:
                grant, rows = _HOLDERS[name]
                yield Policy(name, HOLDER_ROLE, grant, f"{mine} AND {rows}")


def _present(connection: Connection) -> set[tuple[str, str]]:
    mine = "SELECT tablename, policyname FROM pg_policies WHERE schemaname = current_schema()"
    rows = connection.execute(text(mine)).all()
    return {(table, name) for table, name in rows if name.startswith(ROLES)}


def _schema(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT quote_ident(current_schema())")))


def _roles(connection: Connection) -> None:
    """Create what is missing; roles belong to the whole server, so another database's migration may come between."""
    try:
        for role in ROLES:
            connection.execute(text(_CREATE.format(role=role)))
            connection.execute(text(f"GRANT USAGE ON SCHEMA {_schema(connection)} TO {role}"))
    except ProgrammingError as error:
        wanted = "; ".join(f"CREATE ROLE {role} NOLOGIN; GRANT {role} TO CURRENT_USER" for role in ROLES)
        raise RolesMissing(f"have someone who may run, once, as the login of the service: {wanted}") from error


_CREATE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        BEGIN
            CREATE ROLE {role} NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        AND NOT pg_has_role(current_user, '{role}', 'SET') THEN
        GRANT {role} TO CURRENT_USER;
    END IF;
END $$
"""
