"""What routes are given, and what they ask of their callers: scopes, sessions, storage, settings, a place in a list.

Whatever does not wait is async, because a plain function would be sent to a thread and back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator
from sqlalchemy.orm import Session

from app.access.gate import Caller, Gate, Knock
from app.access.scopes import Scope
from app.attributions.intake import Intake
from app.config import Settings
from app.cursor import PAGE_ROWS
from app.db import Database, reading, transaction
from app.errors import InsufficientScope, InvalidRequest, NotFound
from app.storage import Storage

_PROXIED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})


@dataclass(frozen=True)
class Place:
    """Where in a list to go on, and how many items to show."""

    cursor: str | None
    limit: int


async def caller(request: Request) -> Caller:
    """Return who asks; raises NeedsKey, InvalidKey, ForeignHost, ForeignOrigin, DatabaseUnavailable."""
    gate: Gate = request.app.state.gate
    knock = _knock(request)
    known = gate.remembered(knock)
    return await run_in_threadpool(gate.caller, knock) if known is None else known


def _knock(request: Request) -> Knock:
    headers = request.headers
    return Knock(
        peer=request.client.host if request.client else None,
        host=headers.get("host", ""),
        authorization=headers.get("authorization"),
        origin=headers.get("origin"),
        forwarded=not _PROXIED.isdisjoint(headers),
    )


async def settings_of(request: Request) -> Settings:
    """Return the settings that the application was made with."""
    settings: Settings = request.app.state.settings
    return settings


async def database_of(request: Request) -> Database:
    """Return the database that the application opened."""
    database: Database = request.app.state.database
    return database


async def storage_of(request: Request) -> Storage:
    """Return the object storage that the application opened."""
    storage: Storage = request.app.state.storage
    return storage


def aware(moment: datetime) -> datetime:
    """Return an instant with its zone; without one it is taken as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
Moment = Annotated[datetime, AfterValidator(aware)]
DatabaseDep = Annotated[Database, Depends(database_of)]
SettingsDep = Annotated[Settings, Depends(settings_of)]
StorageDep = Annotated[Storage, Depends(storage_of)]
CallerDep = Annotated[Caller, Depends(caller)]


@dataclass(frozen=True)
class Needs:
    """Lets those pass who may do one of these; raises InsufficientScope for others."""

    scopes: tuple[Scope, ...]

    async def __call__(self, caller: CallerDep) -> None:
        """Look at the caller."""
        if not caller.may(*self.scopes):
            raise InsufficientScope(*self.scopes)


def needs(*scopes: Scope) -> Any:
    """Declare, in a route's `dependencies`, what a caller must be allowed to do: one of these."""
    return Depends(Needs(scopes))


async def everybody() -> None:
    """Let everybody pass."""


PUBLIC = Depends(everybody)
"""Declares, in a route's or a router's `dependencies`, that no key is needed."""


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
