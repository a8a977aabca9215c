"""On whose behalf statements run. Under Postgres, row-level security holds them to what that one may see.

The login of the service owns the tables and sees every tenant: workers, the sweeper and commands act so, as SYSTEM.
The API acts as a tenant or as a rights-holder, in roles that see only what `app/isolation.py` lets them; while nobody
has said as whom, it acts as NOBODY and sees nothing. On SQLite there are no roles: the queries alone hold there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine import ExecutionContext
    from sqlalchemy.orm import SessionTransaction

TENANT_ROLE, HOLDER_ROLE = "rootnote_tenant", "rootnote_holder"
TENANT_SETTING, HOLDER_SETTING = "rootnote.tenant", "rootnote.holder"
# One round trip, and forgotten with the transaction: a pooled connection carries nobody's rights to the next one.
_NARROW = "SELECT " + ", ".join(f"set_config('{name}', %s, true)" for name in ("role", TENANT_SETTING, HOLDER_SETTING))
# For a question that is a transaction of its own: nothing else says that it may not write.
_GLANCE = _NARROW.replace("SELECT ", "SELECT set_config('transaction_read_only', 'on', true), ")
_MADE, _CHANGED, _ACTING = "made", "changed", "acting"
AT_ONCE = "rootnote_at_once"
"""The option of a statement that says as whom it is to run, alone and at once."""


@dataclass(frozen=True)
class Acting:
    """As whom a transaction runs, and what is written down of it just before its commit."""

    role: str | None = TENANT_ROLE
    tenant_id: str = ""
    holder_id: str = ""
    witness: Callable[[Session], None] | None = None


SYSTEM = Acting(role=None)
NOBODY = Acting()


class ActingSession(Session):
    """A session whose every transaction is held to what its actor may see."""

    def __init__(self, *args: Any, acting: Acting, **options: Any) -> None:
        super().__init__(*args, expire_on_commit=False, **options)
        self.info[_ACTING] = acting

    @property
    def acting(self) -> Acting:
        """As whom it runs."""
        acting: Acting = self.info[_ACTING]
        return acting


def narrowed(session: Session) -> bool:
    """Whether row-level security holds in this session."""
    return isinstance(session, ActingSession) and bool(session.acting.role) and _on_postgres(session.connection())


def made(session: Session) -> list[tuple[str, str]]:
    """Table and id of every row that this session has written as an object so far."""
    found: list[tuple[str, str]] = session.info.setdefault(_MADE, [])
    return found


def changed(session: Session) -> list[tuple[str, str]]:
    """Table and id of every row that this session has changed as an object so far."""
    found: list[tuple[str, str]] = session.info.setdefault(_CHANGED, [])
    return found


@event.listens_for(ActingSession, "after_begin")
def _narrow(session: ActingSession, transaction: SessionTransaction, connection: Connection) -> None:
    acting = session.acting
    if acting.role and not transaction.nested and _on_postgres(connection):
        connection.exec_driver_sql(_NARROW, (acting.role, acting.tenant_id, acting.holder_id))


def at_once(cursor: Any, statement: str, parameters: Any, context: ExecutionContext) -> bool:
    """Run a statement with the option AT_ONCE in one round trip with the rights that hold for it; whether it did.

    Outside a transaction block, what is sent together is one transaction, with which the rights are forgotten.
    """
    acting: Acting | None = context.execution_options.get(AT_ONCE)
    if acting is None or acting.role is None:
        return False
    connection = cursor.connection
    connection.autocommit = True
    try:
        with connection.pipeline():
            connection.execute(_GLANCE, (acting.role, acting.tenant_id, acting.holder_id))
            cursor.execute(statement, parameters)
    finally:
        connection.autocommit = False
    return True


@event.listens_for(ActingSession, "after_flush")
def _note(session: ActingSession, _: object) -> None:
    if session.acting.witness is not None:
        made(session).extend(_named(each) for each in session.new)
        changed(session).extend(_named(each) for each in session.dirty if session.is_modified(each))


def _named(row: Any) -> tuple[str, str]:
    mapper = inspect(row).mapper
    return mapper.local_table.name, str(mapper.primary_key_from_instance(row)[0])


def _on_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"
