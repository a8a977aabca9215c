"""What was allowed with a song and when, and which songs a model was trained on without being allowed to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select

from app.cursor import PAGE_ROWS, Page, decode, encode
from app.cursor import page as cut
from app.db import now
from app.errors import InvalidRequest, NotFound
from app.models import Model, Song, SongPolicy, TrainingPolicy, TrainingSong, new_id

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row, Subquery
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Stated:
    """A policy and when it holds: from (None: always) until (None: without end). Raises InvalidRequest."""

    policy: TrainingPolicy
    valid_from: datetime | None = None
    valid_to: datetime | None = None

    def __post_init__(self) -> None:
        if self.valid_from and self.valid_to and self.valid_from >= self.valid_to:
            raise InvalidRequest("a policy ends after it begins")

    def holds(self, moment: datetime) -> bool:
        """Whether it holds at an instant."""
        begun = self.valid_from is None or self.valid_from <= moment
        return begun and (self.valid_to is None or moment < self.valid_to)


@dataclass(frozen=True)
class Audit:
    """A model, when it was trained as far as is known, and how many songs it was trained on under which policy.

    unstated: of which nothing was stated for that time, so that nothing allowed it.
    """

    model: Model
    at: datetime
    songs: int
    blocked: int
    limited: int
    unstated: int

    @property
    def without_permission(self) -> int:
        """How many songs nobody had allowed."""
        return self.blocked + self.unstated


def state(session: Session, song: Song, stated: Stated) -> SongPolicy:
    """Add a statement to a song's history; the song shows what holds now, as far as it was stated."""
    moment = now(session)
    row = SongPolicy(
        id=new_id(),
        tenant_id=song.tenant_id,
        song=song,
        policy=stated.policy,
        valid_from=stated.valid_from,
        valid_to=stated.valid_to,
        created_at=moment,
    )
    session.add(row)
    if stated.holds(moment):
        song.training_policy = stated.policy
    return row


def page(
    session: Session, *, tenant_id: str, song_id: str, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[SongPolicy]:
    """Return a song's statements, the newest first; raises NotFound, BadCursor."""
    scope = f"policies:{song_id}"
    query = select(SongPolicy).where(SongPolicy.tenant_id == tenant_id, SongPolicy.song_id == song_id)
    if cursor is not None:
        (last,) = decode(scope, cursor, str)
        query = query.where(SongPolicy.id < last)
    found = list(session.scalars(query.order_by(SongPolicy.id.desc()).limit(limit + 1)))
    if not found and session.scalar(select(Song.id).where(Song.id == song_id, Song.tenant_id == tenant_id)) is None:
        raise NotFound(f"there is no song {song_id}")
    return cut(found, limit, lambda row: encode(scope, row.id))


def latest(session: Session, song_ids: list[str]) -> dict[str, SongPolicy]:
    """Return the statement about each song that was made last."""
    last = select(func.max(SongPolicy.id)).where(SongPolicy.song_id.in_(song_ids)).group_by(SongPolicy.song_id)
    return {row.song_id: row for row in session.scalars(select(SongPolicy).where(SongPolicy.id.in_(last)))}


def trained_at(model: Model) -> datetime:
    """When a model was trained: as its index says (`trained_at`), else when it was registered."""
    try:
        told = datetime.fromisoformat(str(model.details.get("trained_at")))
    except ValueError:
        return model.created_at
    return told if told.tzinfo else model.created_at


def audit(session: Session, *, model: Model, at: datetime | None = None) -> Audit:
    """Count the songs of a model's training set by the policy that held when it was trained, or at another instant."""
    moment = at or trained_at(model)
    held = _held(model, moment)
    counts: dict[str | None, int] = {
        row[0]: row[1] for row in session.execute(select(held.c.policy, func.count()).group_by(held.c.policy))
    }
    numbers = (counts.get(each, 0) for each in (TrainingPolicy.BLOCK, TrainingPolicy.LIMIT, None))
    return Audit(model, moment, sum(counts.values()), *numbers)


def without_permission(
    session: Session, *, audit: Audit, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Row[Any]]:
    """Return the songs that were not allowed or only within limits, as rows of song and policy; raises BadCursor."""
    held = _held(audit.model, audit.at)
    found = [held.c.policy, held.c.valid_from, held.c.valid_to, held.c.key]
    doubtful = or_(held.c.policy.is_(None), held.c.policy != TrainingPolicy.ALLOW)
    scope = f"audit:{audit.model.id}:{audit.at.isoformat()}"
    query = select(Song.id, Song.title, Song.artist, Song.isrc, *found).join(held, held.c.song_id == Song.id)
    if cursor is not None:
        (last,) = decode(scope, cursor, str)
        query = query.where(Song.id > last)
    rows = session.execute(query.where(doubtful).order_by(Song.id).limit(limit + 1)).all()
    return cut(rows, limit, lambda row: encode(scope, row.id))


def _held(model: Model, moment: datetime) -> Subquery:
    """Every song of the training set with the statement that held at an instant, null where there was none."""
    begun: ColumnElement[bool] = or_(SongPolicy.valid_from.is_(None), SongPolicy.valid_from <= moment)
    holding = and_(begun, or_(SongPolicy.valid_to.is_(None), SongPolicy.valid_to > moment))
    joined = and_(SongPolicy.song_id == TrainingSong.song_id, SongPolicy.tenant_id == TrainingSong.tenant_id, holding)
    newest = func.row_number().over(partition_by=TrainingSong.song_id, order_by=SongPolicy.id.desc())
    statement = (SongPolicy.policy, SongPolicy.valid_from, SongPolicy.valid_to)
    each = (
        select(TrainingSong.song_id, TrainingSong.key, *statement, newest.label("place"))
        .outerjoin(SongPolicy, joined)
        .where(TrainingSong.model_id == model.id, TrainingSong.tenant_id == model.tenant_id)
        .subquery()
    )
    return select(each).where(each.c.place == 1).subquery()
