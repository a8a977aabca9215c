"""Stored recordings are held against being erased while a row that names one is written.

Whoever names an object, and whoever erases it, first takes the same lock on its key, for the length of a transaction:
a track that comes in again while it is being erased is either seen by the eraser, or its sender is told to repeat it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from app.storage import Storage


def hold(session: Session, key: str) -> None:
    """Let nobody else name or erase an object until this transaction ends."""
    connection = session.connection()  # with it the transaction begins, and on SQLite one that writes is alone
    if connection.dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def claim(session: Session, storage: Storage, keys: Iterable[str]) -> None:
    """Hold objects that rows are about to name; raises StorageUnavailable where one was erased meanwhile."""
    for key in sorted(set(keys)):  # in one order, so that two who name the same objects do not wait for each other
        hold(session, key)
        if not storage.has(key):
            raise StorageUnavailable("the recording was erased while it came in; send it again")
