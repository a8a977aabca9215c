"""Many tracks at once: each item is accepted or refused by itself, and sending one again changes nothing.

A batch is the name that its caller gives to some attributions; it grows with every request that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from app import cursor as cursors
from app.attributions import pressure, service
from app.attributions.intake import Intake, KeptAudio, keep, receive
from app.audio import AudioFacts
from app.cursor import PAGE_ROWS
from app.db import reading, transaction
from app.errors import Conflict, InvalidRequest, MissingFile, NotFound, ServiceError, Unavailable, UnknownAudio
from app.models import Attribution, Status
from app.retention.holding import claim

if TYPE_CHECKING:
    from app.attributions.service import NewAttribution
    from app.cursor import Page

_CHUNK = 1024 * 1024
Files = Mapping[str, IO[bytes]]


@dataclass(frozen=True)
class Item:
    """One track of a batch: a file that was sent along, by its part's name, or one sent earlier, by its digest."""

    custom_id: str
    request: NewAttribution
    file: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Answer:
    """What became of an item: the attribution that it is, now or since an earlier request, or why it was refused."""

    custom_id: str
    attribution_id: str | None = None
    error: ServiceError | None = None
    known: bool = False


def submit(intake: Intake, *, tenant_id: str, batch: str, items: Sequence[Item | Answer], files: Files) -> list[Answer]:
    """Keep and queue every sound item that the batch does not hold yet, all of them or, on an exception, none.

    What is an answer already, stays one. Raises Unavailable, InvalidRequest where a custom id occurs twice, and
    Conflict where another request adds one of the items at the same time.
    """
    if len({item.custom_id for item in items}) < len(items):
        raise InvalidRequest("items: a custom_id occurs twice")
    answers: dict[str, Answer] = {}
    ready: list[tuple[Item, KeptAudio]] = []
    audio = _Tracks(intake, tenant_id, files)
    known = _known(intake, tenant_id, batch)
    if any(isinstance(item, Item) and item.custom_id not in known for item in items):
        pressure.check(intake.db, tenant_id=tenant_id, settings=intake.settings)
    for item in items:
        if item.custom_id in known or isinstance(item, Answer):
            held = known.get(item.custom_id)
            answers[item.custom_id] = item if isinstance(item, Answer) else Answer(item.custom_id, held, known=True)
            continue
        try:
            ready.append((item, audio.of(item)))
        except Unavailable:
            raise
        except ServiceError as error:
            answers[item.custom_id] = Answer(item.custom_id, error=error)
    with transaction(intake.db) as session:
        claim(session, intake.storage, [kept.key for _, kept in ready])
        for item, kept in ready:
            answers[item.custom_id] = _create(session, intake, tenant_id, item, kept)
    return [answers[item.custom_id] for item in items]


def counts(session: Session, *, tenant_id: str, batch: str) -> dict[Status, int]:
    """How many of a batch stand how; raises NotFound for one without items."""
    mine = (Attribution.tenant_id == tenant_id, Attribution.batch == batch)
    grouped = select(Attribution.status, func.count()).where(*mine).group_by(Attribution.status)
    found = {Status(row[0]): row[1] for row in session.execute(grouped)}
    if not found:
        raise NotFound(f"there is no batch {batch}")
    return found


def page(
    session: Session, *, tenant_id: str, batch: str, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Attribution]:
    """The items of a batch in order of their custom ids, their models loaded; raises NotFound, BadCursor."""
    scope = f"batch:{batch}"
    query = select(Attribution).where(Attribution.tenant_id == tenant_id, Attribution.batch == batch)
    if cursor is not None:
        query = query.where(Attribution.custom_id > cursors.decode(scope, cursor, str)[0])
    ordered = query.order_by(Attribution.custom_id).limit(limit + 1).options(joinedload(Attribution.model))
    found = session.scalars(ordered).all()
    if not found and cursor is None:
        raise NotFound(f"there is no batch {batch}")
    return cursors.page(found, limit, lambda row: cursors.encode(scope, str(row.custom_id)))


def _known(intake: Intake, tenant_id: str, batch: str) -> dict[str, str]:
    mine = (Attribution.tenant_id == tenant_id, Attribution.batch == batch)
    with reading(intake.db) as session:
        found = session.execute(select(Attribution.custom_id, Attribution.id).where(*mine))
        return {str(custom_id): ident for custom_id, ident in found}


class _Tracks:
    """The tracks of a request in the storage; a file that several items name is looked at and kept once."""

    def __init__(self, intake: Intake, tenant_id: str, files: Files) -> None:
        self._intake, self._tenant_id, self._files = intake, tenant_id, files
        self._kept: dict[str, KeptAudio] = {}

    def of(self, item: Item) -> KeptAudio:
        """An item's track; what is wrong with the item besides is said first."""
        service.resolve_method(item.request.method)
        with reading(self._intake.db) as session:
            name = item.request.model or self._intake.settings.model_name
            service.resolve_model(session, tenant_id=self._tenant_id, name=name)
            if item.sha256 is not None:
                return _earlier(session, self._tenant_id, item.sha256)
        file = item.file or ""
        if file not in self._kept:
            self._kept[file] = self._keep(file)
        return self._kept[file]

    def _keep(self, name: str) -> KeptAudio:
        if name not in self._files:
            raise MissingFile(f"the request has no file called {name!r}")
        chunks = iter(partial(self._files[name].read, _CHUNK), b"")
        with receive(chunks, self._intake.settings) as received:
            return keep(self._intake.storage, self._tenant_id, received)


def _earlier(session: Session, tenant_id: str, sha256: str) -> KeptAudio:
    mine = (
        Attribution.tenant_id == tenant_id,
        Attribution.audio_sha256 == sha256,
        Attribution.audio_erased_at.is_(None),
    )
    row = session.scalars(select(Attribution).where(*mine).limit(1)).one_or_none()
    if row is None:
        raise UnknownAudio(f"no track with the digest {sha256} was sent before")
    return KeptAudio(row.audio_key, row.audio_sha256, row.audio_bytes, AudioFacts(**row.audio_facts))


def _create(session: Session, intake: Intake, tenant_id: str, item: Item, audio: KeptAudio) -> Answer:
    try:
        with session.begin_nested():
            made = service.create(
                session, tenant_id=tenant_id, request=item.request, audio=audio, settings=intake.settings
            )
    except IntegrityError as error:
        raise Conflict("another request adds to this batch at the same time; send it again") from error
    except ServiceError as error:
        return Answer(item.custom_id, error=error)
    return Answer(item.custom_id, made.id)
