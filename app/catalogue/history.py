"""A song's influence history: in which tracks it was found, when, and with what share."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.catalogue.schemas import Bucket
from app.cursor import PAGE_ROWS, Page, decode, encode
from app.cursor import page as cut
from app.db import bucket_start
from app.errors import InvalidRequest, NotFound, UnknownModel
from app.models import Attribution, Influence, Model, Song

# Columns, not objects: building three objects a row would take twice as long as all the rest.
_SHOWN: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...] = (
    Influence.created_at.label("at"),
    Influence.rank,
    Influence.score,
    Influence.score_low,
    Influence.score_high,
    Influence.effect,
    Influence.share,
    Influence.share_low,
    Influence.share_high,
    Influence.percentile,
    Influence.check_mirrored,
    Influence.check_forward,
    Influence.matches,
    Attribution.method,
    Attribution.id.label("attribution_id"),
    Attribution.external_id,
    Attribution.filename,
    Attribution.created_at,
    Model.id.label("model_id"),
    Model.name.label("model_name"),
)


@dataclass(frozen=True)
class Wanted:
    """Which part of a song's history: `since` ≤ time < `until`, found with one model (its id or name)."""

    song_id: str
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if self.since and self.until and self.since >= self.until:
            raise InvalidRequest("`from` must lie before `to`")


@dataclass(frozen=True)
class Point:
    """One bucket of a history: its first day (UTC), the tracks in it, and the shares that the song had in them."""

    start: date
    attributions: int
    share_sum: float
    share_max: float
    best_rank: int


def page(
    session: Session, *, tenant_id: str, wanted: Wanted, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Row[Any]]:
    """Return a song's influences, newest first, as rows of `_SHOWN`; raises NotFound, BadCursor, UnknownModel."""
    scope = f"history:{wanted.song_id}"
    conditions = _conditions(tenant_id, wanted)
    if cursor is not None:
        # Compared as a pair, which an index can begin at; the same said with OR is read from the newest row on.
        place = tuple_(Influence.created_at, Influence.attribution_id)
        conditions.append(place < decode(scope, cursor, datetime, str))
    query = (
        select(*_SHOWN)
        .join(Influence.attribution)
        .join(Model, Model.id == Influence.model_id)
        .where(*conditions)
        .order_by(Influence.created_at.desc(), Influence.attribution_id.desc())
    )
    found = session.execute(query.limit(limit + 1)).all()
    if not found:
        _require(session, tenant_id, wanted)
    return cut(found, limit, lambda row: encode(scope, row.at, row.attribution_id))


def series(session: Session, *, tenant_id: str, wanted: Wanted, bucket: Bucket) -> list[Point]:
    """Return the history by day, week (from Monday) or month, oldest first; buckets without a track are left out."""
    start = bucket_start(session, Influence.created_at, bucket).label("bucket")
    query = (
        select(start, func.count(), func.sum(Influence.share), func.max(Influence.share), func.min(Influence.rank))
        .where(*_conditions(tenant_id, wanted))
        .group_by("bucket")
        .order_by("bucket")
    )
    points = [Point(date.fromisoformat(row[0]), *row[1:]) for row in session.execute(query)]
    if not points:
        _require(session, tenant_id, wanted)
    return points


def _conditions(tenant_id: str, wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions = [Influence.tenant_id == tenant_id, Influence.song_id == wanted.song_id]
    if wanted.since is not None:
        conditions.append(Influence.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(Influence.created_at < wanted.until)
    if wanted.model is not None:
        conditions.append(Influence.model_id.in_(_models(tenant_id, wanted.model)))
    return conditions


def _models(tenant_id: str, named: str) -> Select[str]:
    return select(Model.id).where(Model.tenant_id == tenant_id, or_(Model.id == named, Model.name == named))


def _require(session: Session, tenant_id: str, wanted: Wanted) -> None:
    """Where nothing was found, say whether that is because nothing could be: rows prove that song and model exist."""
    if session.scalar(select(Song.id).where(Song.id == wanted.song_id, Song.tenant_id == tenant_id)) is None:
        raise NotFound(f"there is no song {wanted.song_id}")
    if wanted.model is not None and session.scalar(_models(tenant_id, wanted.model)) is None:
        raise UnknownModel(f"no model {wanted.model!r} is registered")
