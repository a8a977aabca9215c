"""What routes are given: the caller, sessions, storage, settings, a place in a list.

Whatever does not wait is async, because a plain function would be sent to a thread and back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, BeforeValidator
from sqlalchemy.orm import Session

from app.access.gate import Caller
from app.attributions.intake import Intake
from app.callers import PUBLIC, CallerDep, DatabaseDep, SystemDep, caller, needs
from app.config import Settings
from app.cursor import PAGE_ROWS
from app.db import reading, transaction
from app.errors import InvalidRequest, NotFound
from app.storage import Storage

__all__ = [
    "PUBLIC",
    "Caller",
    "CallerDep",
    "Cursor",
    "DatabaseDep",
    "IntakeDep",
    "Moment",
    "Place",
    "PlaceDep",
    "ReadDep",
    "SettingsDep",
    "StorageDep",
    "SystemDep",
    "WriteDep",
    "caller",
    "needs",
]


@dataclass(frozen=True)
class Place:
    """Where in a list to go on, and how many items to show."""

    cursor: str | None
    limit: int


async def settings_of(request: Request) -> Settings:
    """Return the settings that the application was made with."""
    settings: Settings = request.app.state.settings
    return settings


async def storage_of(request: Request) -> Storage:
    """Return the object storage that the application opened."""
    storage: Storage = request.app.state.storage
    return storage


def dated(given: Any) -> Any:
    """Return what is given unless it is a bare number, which says no date; raises ValueError."""
    if isinstance(given, str) and given.strip().lstrip("+-").replace(".", "", 1).isdecimal():
        raise ValueError("a date and a time are needed, such as 2026-01-31T12:00:00Z")
    return given


def aware(moment: datetime) -> datetime:
    """Return an instant with its zone; without one it is taken as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
Moment = Annotated[datetime, BeforeValidator(dated), AfterValidator(aware)]
SettingsDep = Annotated[Settings, Depends(settings_of)]
StorageDep = Annotated[Storage, Depends(storage_of)]


async def intake(database: DatabaseDep, storage: StorageDep, settings: SettingsDep) -> Intake:
    """Return all that taking in a track needs."""
    return Intake(database, storage, settings)


def writing_session(database: DatabaseDep) -> Iterator[Session]:
    """Yield the session of one unit of work, committed before the answer is sent."""
    with transaction(database) as session:
        yield session


def reading_session(database: DatabaseDep) -> Iterator[Session]:
    """Yield a session that only reads, given back before the answer is sent."""
    with reading(database) as session:
        yield session


async def place(
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="The most items to show.")] = PAGE_ROWS,
) -> Place:
    """Return where in a list to go on."""
    return Place(cursor, limit)


async def sound_address(request: Request) -> None:
    """Refuse NUL characters, which Postgres cannot hold; raises NotFound (path) or InvalidRequest (query)."""
    if "\x00" in request.url.path or "%00" in request.url.path:
        raise NotFound
    if "%00" in request.url.query:
        raise InvalidRequest("the query holds a NUL character")


IntakeDep = Annotated[Intake, Depends(intake)]
WriteDep = Annotated[Session, Depends(writing_session, scope="function")]
ReadDep = Annotated[Session, Depends(reading_session, scope="function")]
PlaceDep = Annotated[Place, Depends(place)]
