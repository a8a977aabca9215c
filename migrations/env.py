"""Run by Alembic, from its command line or from `app.db.migrate`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from alembic import context

import app.models  # noqa: F401 (fills the metadata)
from app import isolation
from app.config import settings
from app.db import Base, engines
from app.migrate import belongs

if TYPE_CHECKING:
    from sqlalchemy import Connection


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_server_default=True,
        include_object=partial(belongs, connection),
    )
    secured = connection.dialect.name == "postgresql"
    with context.begin_transaction():
        if secured and _changes():
            isolation.release(connection)
        context.run_migrations()
        if secured:
            isolation.hold(connection)


def _changes() -> bool:
    """Whether tables may change: a start that changes nothing leaves the policies where they are."""
    present = set(context.get_context().get_current_heads())
    return not context.config.attributes.get("up") or present != set(context.script.get_heads())


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    database = engines(settings())
    with database.write.begin() as connection:
        run(connection)
    database.close()
