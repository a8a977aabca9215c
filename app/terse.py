"""What a database's error says once it is logged: what was wrong, and nothing that a caller sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext


def terse(context: ExceptionContext) -> None:
    """Leave of Postgres' complaint its first line: a further one shows the whole row."""
    told, error = context.original_exception, context.sqlalchemy_exception
    if isinstance(told, psycopg.Error) and told.diag.message_primary:
        told.args = (told.diag.message_primary,)
        if error is not None:
            error.args = (f"({type(told).__name__}) {told}",)
