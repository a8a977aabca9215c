"""Disputes as a caller sees them: raised, listed, resolved. Functions over a session; none of them commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import contains_eager

from app import cursor as cursors
from app.attributions import service as attributions
from app.cursor import PAGE_ROWS
from app.db import now
from app.errors import Conflict, NotFound
from app.models import Dispute, DisputeOutcome, Influence, Song, new_id

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from app.cursor import Page


class AlreadyDisputed(Conflict):
    """The row is disputed already, and that dispute is still open."""

    type, title = "already-disputed", "This row is disputed already"


class AlreadyResolved(Conflict):
    """The dispute has been resolved; a decision is not changed, a new dispute may be raised."""

    type, title = "already-resolved", "This dispute is resolved"


@dataclass(frozen=True)
class Objection:
    """Which song's row is disputed, by whom, with which API key, and why."""

    song_id: str
    by: str
    reason: str
    key_id: str | None = None


@dataclass(frozen=True)
class Review:
    """What was decided, by whom, with which API key, and why."""

    outcome: DisputeOutcome
    by: str
    note: str
    key_id: str | None = None


def raise_one(session: Session, *, tenant_id: str, attribution_id: str, objection: Objection) -> Dispute:
    """Dispute a song's row; raises NotFound where there is no such row, AlreadyDisputed."""
    row = select(Influence.song_id).where(
        Influence.tenant_id == tenant_id,
        Influence.attribution_id == attribution_id,
        Influence.song_id == objection.song_id,
    )
    if session.scalar(row) is None:
        raise NotFound("there is no result with a row of this song")
    made = Dispute(
        id=new_id(),
        tenant_id=tenant_id,
        attribution_id=attribution_id,
        song_id=objection.song_id,
        reason=objection.reason,
        raised_by=objection.by,
        raised_key=objection.key_id,
        raised_at=now(session),
    )
    session.add(made)
    try:
        session.flush()
    except IntegrityError as error:
        raise AlreadyDisputed from error
    return get(session, tenant_id=tenant_id, attribution_id=attribution_id, dispute_id=made.id)


def get(
    session: Session, *, tenant_id: str, attribution_id: str, dispute_id: str, raised_key: str | None = None
) -> Dispute:
    """Return a dispute, its song loaded, where a key is named only what it raised; raises NotFound."""
    wanted = _disputes(tenant_id, attribution_id).where(Dispute.id == dispute_id)
    if raised_key is not None:
        wanted = wanted.where(Dispute.raised_key == raised_key)
    found = session.scalars(wanted.execution_options(populate_existing=True)).one_or_none()
    if found is None:
        raise NotFound("there is no such dispute")
    return found


def page(
    session: Session, *, tenant_id: str, attribution_id: str, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Dispute]:
    """Return an attribution's disputes in the order in which they were raised; raises NotFound, BadCursor."""
    attributions.get(session, tenant_id=tenant_id, attribution_id=attribution_id)
    scope, query = f"disputes:{attribution_id}", _disputes(tenant_id, attribution_id)
    if cursor is not None:
        query = query.where(Dispute.id > cursors.decode(scope, cursor, str)[0])
    found = session.scalars(query.order_by(Dispute.id).limit(limit + 1)).all()
    return cursors.page(found, limit, lambda each: cursors.encode(scope, each.id))


def resolve(session: Session, *, tenant_id: str, attribution_id: str, dispute_id: str, review: Review) -> Dispute:
    """Write what a review decided; saying the same again changes nothing. Raises NotFound, AlreadyResolved."""
    chosen = select(Dispute).where(
        Dispute.tenant_id == tenant_id, Dispute.attribution_id == attribution_id, Dispute.id == dispute_id
    )
    held = session.scalars(chosen.with_for_update()).one_or_none()
    if held is None:
        raise NotFound("there is no such dispute")
    if held.outcome is None:
        held.outcome, held.note = review.outcome, review.note
        held.resolved_by, held.resolved_key, held.resolved_at = review.by, review.key_id, now(session)
        session.flush()
    elif (held.outcome, held.note, held.resolved_by) != (review.outcome, review.note, review.by):
        raise AlreadyResolved(f"it was {held.outcome} by {held.resolved_by}")
    return get(session, tenant_id=tenant_id, attribution_id=attribution_id, dispute_id=dispute_id)


def _disputes(tenant_id: str, attribution_id: str) -> Select[Dispute]:
    whose = (Dispute.tenant_id == tenant_id, Dispute.attribution_id == attribution_id, Song.tenant_id == tenant_id)
    return select(Dispute).join(Dispute.song).where(*whose).options(contains_eager(Dispute.song))
