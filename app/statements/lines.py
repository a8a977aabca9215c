"""The lines of a closing: what each holder should have by now, less what was stated for it before."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, and_, case, cast, func, insert, literal, select, union, union_all

from app.catalogue.rights import RECORDING_ROLES
from app.models import Right, Side, Song, StatedSong, StatementLine
from app.statements.amounts import parts, portion

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import CTE, Select
    from sqlalchemy.orm import Session

    from app.models import Closing

MARGIN = timedelta(hours=1)
"""A change of rights is looked for from so long before the last closing on: it may have been written then and seen
only later. What is looked at twice changes nothing."""

_KEY = ("month", "song_id", "holder_id", "role")
_SUMS = ("parts", "tracks", "amount")


def write(session: Session, closing: Closing, previous: datetime | None) -> None:
    """Write the lines in which this closing differs from all before it; `previous` is when the last one was made."""
    touched = _touched(closing, previous)
    both = union_all(_due(touched, closing), _stated(touched, closing)).subquery()
    keys = [both.c[name] for name in _KEY]
    sums = [func.sum(both.c[name]).label(name) for name in _SUMS]
    changed = select(*keys, *sums).group_by(*keys).having(func.sum(both.c.amount) != 0).subquery()
    side = case((changed.c.role.in_(sorted(RECORDING_ROLES)), Side.RECORDING.value), else_=Side.WORK.value)
    order = (changed.c.month.desc(), side, changed.c.amount.desc(), changed.c.song_id, changed.c.role)
    shown = select(
        literal(closing.tenant_id).label("tenant_id"),
        literal(closing.id).label("closing_id"),
        func.row_number().over(partition_by=changed.c.holder_id, order_by=order).label("place"),
        *(changed.c[name] for name in (*_KEY, *_SUMS)),
        side.label("side"),
        *(Song.isrc, Song.iswc, Song.title, Song.artist),
    ).join_from(changed, Song, Song.id == changed.c.song_id)
    session.execute(insert(StatementLine).from_select(list(shown.selected_columns.keys()), shown))


def _touched(closing: Closing, previous: datetime | None) -> CTE:
    """Songs by month that this closing adds to, or whose rights may have changed since the one before."""
    pairs = select(StatedSong.song_id, StatedSong.month).where(StatedSong.tenant_id == closing.tenant_id)
    added = pairs.where(StatedSong.closing_id == closing.id)
    if previous is None:
        return added.cte("touched")
    lately = and_(Song.tenant_id == closing.tenant_id, Song.updated_at > previous - MARGIN)
    return union(added, pairs.join(Song, Song.id == StatedSong.song_id).where(lately)).cte("touched")


def _due(touched: CTE, closing: Closing) -> Select[str, str, str, str, int, int, int]:
    """What every holder should have of those songs by its present rights."""
    here = and_(touched.c.song_id == StatedSong.song_id, touched.c.month == StatedSong.month)
    sums = (func.sum(StatedSong.tracks).label("tracks"), func.sum(StatedSong.amount).label("amount"))
    names = (StatedSong.month, StatedSong.song_id)
    whole = select(*names, *sums).join(touched, here).where(StatedSong.tenant_id == closing.tenant_id)
    songs = whole.group_by(*names).subquery()
    right = (Right.song_id, Right.holder_id, Right.role)
    theirs = and_(Right.tenant_id == closing.tenant_id, Right.song_id.in_(select(touched.c.song_id)))
    held = select(*right, func.sum(parts(Right.share)).label("parts")).where(theirs).group_by(*right).subquery()
    # Sums of integers are decimals on Postgres, where integer division would not cut off.
    amount, part = cast(songs.c.amount, BigInteger), cast(held.c.parts, BigInteger)
    return select(
        *(songs.c.month, songs.c.song_id, held.c.holder_id, held.c.role),
        *(part.label("parts"), cast(songs.c.tracks, BigInteger).label("tracks")),
        portion(amount, part).label("amount"),
    ).join(held, held.c.song_id == songs.c.song_id)


def _stated(touched: CTE, closing: Closing) -> Select[str, str, str, str, int, int, int]:
    """What was stated of those songs before, to be taken off."""
    line = StatementLine
    here = and_(touched.c.song_id == line.song_id, touched.c.month == line.month)
    less = (literal(0).label("parts"), (-line.tracks).label("tracks"), (-line.amount).label("amount"))
    stated = select(*(line.month, line.song_id, line.holder_id, line.role), *less).join(touched, here)
    return stated.where(line.tenant_id == closing.tenant_id)
