"""A song's influence history: in which tracks it was found, when, and with what share."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, String, bindparam, func, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.catalogue.schemas import Bucket
from app.cursor import PAGE_ROWS, Page, decode, encode
from app.cursor import page as cut
from app.db import bucket_start
from app.errors import InvalidRequest, NotFound, UnknownModel
from app.models import Attribution, Influence, Model, Right, Song

_MODELS = select(Model.id).where(
    Model.tenant_id == bindparam("tenant"), or_(Model.id == bindparam("model"), Model.name == bindparam("model"))
)
_NARROWING: dict[str, ColumnElement[bool]] = {
    "since": Influence.created_at >= bindparam("since"),
    "until": Influence.created_at < bindparam("until"),
    "model": Influence.model_id.in_(_MODELS),
    # As a pair, which an index can begin at; the same said with OR is read from the newest row on.
    "after": tuple_(Influence.created_at, Influence.attribution_id)
    < tuple_(bindparam("after", type_=Influence.created_at.type), bindparam("ident", type_=String())),
}


@dataclass(frozen=True)
class Wanted:
    """Which part of a song's history: `since` ≤ time < `until`, found with one model (its id or name)."""

    song_id: str
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None

    def values(self) -> dict[str, Any]:
        """Return what narrows the history, by the names of `_NARROWING`."""
        given = {"since": self.since, "until": self.until, "model": self.model}
        return {name: value for name, value in given.items() if value is not None}

    def __post_init__(self) -> None:
        if self.since and self.until and self.since >= self.until:
            raise InvalidRequest("`from` must lie before `to`")


@dataclass(frozen=True)
class Point:
    """One bucket of a history: its first day (UTC), the counted tracks in it, and the song's shares in them."""

    start: date
    attributions: int
    share_sum: float
    share_max: float
    best_rank: int


def page(
    session: Session, *, tenant_id: str, wanted: Wanted, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Row[Any]]:
    """Return a song's influences, newest first, as rows of `_shown`; raises NotFound, BadCursor, UnknownModel."""
    scope, values = f"history:{wanted.song_id}", wanted.values()
    place: dict[str, Any] = {}
    if cursor is not None:
        values["after"], place["ident"] = decode(scope, cursor, datetime, str)
    whose = {"tenant": tenant_id, "song": wanted.song_id}
    found = session.execute(_page(*values), values | place | whose | {"rows": limit + 1}).all()
    if not found:
        _require(session, tenant_id, wanted)
    return cut(found, limit, lambda row: encode(scope, row.at, row.attribution_id))


@lru_cache
def _page(*given: str) -> Select[Any]:
    """The statement of a page with these names given; building it anew would take a fifth of the whole request."""
    newest = (Influence.created_at.desc(), Influence.attribution_id.desc())
    inner = select(Influence).where(*_conditions(*given)).order_by(*newest).limit(bindparam("rows"))
    # Cut before it is joined: else Postgres plans the joins, and their caches, for the whole history.
    found = aliased(Influence, inner.subquery())
    query = select(*_shown(found)).join(Attribution, Attribution.id == found.attribution_id)
    joined = query.join(Model, Model.id == found.model_id)
    return joined.order_by(found.created_at.desc(), found.attribution_id.desc())


def _shown(found: type[Influence]) -> tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...]:
    """Columns, not objects: building three objects a row would take twice as long as all the rest."""
    return (
        found.created_at.label("at"),
        *(found.rank, found.score, found.score_low, found.score_high, found.effect),
        *(found.share, found.share_low, found.share_high, found.percentile),
        *(found.check_mirrored, found.check_forward, found.matches, found.counted),
        Attribution.method,
        Attribution.id.label("attribution_id"),
        *(Attribution.external_id, Attribution.filename, Attribution.created_at),
        Model.id.label("model_id"),
        Model.name.label("model_name"),
    )


def series(session: Session, *, tenant_id: str, wanted: Wanted, bucket: Bucket) -> list[Point]:
    """Return the history by day, week (from Monday) or month, oldest first; only what counts is summed."""
    start = bucket_start(session, Influence.created_at, bucket).label("bucket")
    values = wanted.values()
    query = (
        select(start, func.count(), func.sum(Influence.share), func.max(Influence.share), func.min(Influence.rank))
        .where(*_conditions(*values), Influence.counted)
        .group_by("bucket")
        .order_by("bucket")
    )
    rows = session.execute(query, values | {"tenant": tenant_id, "song": wanted.song_id})
    points = [Point(date.fromisoformat(row[0]), *row[1:]) for row in rows]
    if not points:
        _require(session, tenant_id, wanted)
    return points


def portfolio(session: Session, *, tenant_id: str, holder_id: str, bucket: Bucket) -> list[Point]:
    """Return the history of all songs that someone holds rights in, together, by day, week or month; whole shares."""
    start = bucket_start(session, Influence.created_at, bucket).label("bucket")
    held = select(Right.song_id).where(Right.tenant_id == tenant_id, Right.holder_id == holder_id)
    tracks = func.count(func.distinct(Influence.attribution_id))
    query = (
        select(start, tracks, func.sum(Influence.share), func.max(Influence.share), func.min(Influence.rank))
        .where(Influence.tenant_id == tenant_id, Influence.song_id.in_(held))
        .group_by("bucket")
        .order_by("bucket")
    )
    return [Point(date.fromisoformat(row[0]), *row[1:]) for row in session.execute(query)]


def _conditions(*given: str) -> tuple[ColumnElement[bool], ...]:
    whose = (Influence.tenant_id == bindparam("tenant"), Influence.song_id == bindparam("song"))
    return *whose, *(_NARROWING[name] for name in given)


def _require(session: Session, tenant_id: str, wanted: Wanted) -> None:
    """Where nothing was found, say whether that is because nothing could be: rows prove that song and model exist."""
    if session.scalar(select(Song.id).where(Song.id == wanted.song_id, Song.tenant_id == tenant_id)) is None:
        raise NotFound(f"there is no song {wanted.song_id}")
    if wanted.model is not None and session.scalar(_MODELS, {"tenant": tenant_id, "model": wanted.model}) is None:
        raise UnknownModel(f"no model {wanted.model!r} is registered")
