"""One question to the database, asked and answered at once: how an attribution stands is asked more than all else.

Under Postgres the caller's rights and the question go out together and are a transaction of their own, which can only
read and ends with the answer: one round trip, where a session takes four. On SQLite it is a reading like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.acting import AT_ONCE
from app.db import answering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row, Select

    from app.db import Database


def glance(database: Database, question: Select[Any], given: Mapping[str, Any]) -> Row[Any] | None:
    """The one row that a question finds, None where it finds none; raises DatabaseUnavailable."""
    with answering(), database.read.connect() as connection:
        return connection.execute(question, given, execution_options={AT_ONCE: database.acting}).one_or_none()
