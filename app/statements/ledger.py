"""Which tracks count in a closing, and what songs gain or lose by it: each a single statement over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import String, and_, case, exists, func, insert, literal, select, union_all

from app.db import bucket_start
from app.models import Attribution, Dispute, DisputeOutcome, Influence, StatedDispute, StatedSong, StatedTrack, Status
from app.statements.amounts import units

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from app.models import Closing

_UPHELD = and_(
    Dispute.outcome == DisputeOutcome.UPHELD,
    Dispute.attribution_id == Influence.attribution_id,
    Dispute.song_id == Influence.song_id,
)
_TAKEN_OUT = and_(StatedDispute.attribution_id == Influence.attribution_id, StatedDispute.song_id == Influence.song_id)


def waiting(session: Session, tenant_id: str, until: datetime) -> Select[str, str]:
    """Select id and month (of its end) of every track that counts, ended before `until` and is not stated yet."""
    ended = cast("InstrumentedAttribute[datetime]", Attribution.finished_at)  # what has succeeded has ended
    month = func.substr(bucket_start(session, ended, "month"), 1, 7, type_=String).label("month")
    stated = select(StatedTrack.attribution_id).where(StatedTrack.attribution_id == Attribution.id)
    return select(Attribution.id, month).where(
        Attribution.tenant_id == tenant_id,
        Attribution.counted,
        Attribution.status == Status.SUCCEEDED,
        Attribution.finished_at < until,
        ~stated.exists(),
    )


def count(session: Session, closing: Closing, until: datetime) -> None:
    """Write which tracks count, what that adds to songs, and what upheld disputes take from what was stated before."""
    found = waiting(session, closing.tenant_id, until).subquery()
    whose = (literal(closing.tenant_id), literal(closing.id))
    tracks = select(found.c.id, *whose, found.c.month)
    session.execute(insert(StatedTrack).from_select(["attribution_id", "tenant_id", "closing_id", "month"], tracks))
    changes = union_all(_added(closing), _taken(closing)).subquery()
    sums = (func.sum(changes.c.tracks), func.sum(changes.c.amount))
    grouped = select(*whose, changes.c.month, changes.c.song_id, *sums).group_by(changes.c.month, changes.c.song_id)
    columns = ["tenant_id", "closing_id", "month", "song_id", "tracks", "amount"]
    session.execute(insert(StatedSong).from_select(columns, grouped))
    _note_disputes(session, closing)


def _added(closing: Closing) -> Select[str, str, int, int]:
    """What songs have in the tracks of this closing, but for rows that a dispute took out already."""
    return _rows(1, StatedTrack.closing_id == closing.id, ~exists().where(_UPHELD))


def _taken(closing: Closing) -> Select[str, str, int, int]:
    """What songs had in tracks of earlier closings in which a dispute was upheld since."""
    upheld = select(Dispute.attribution_id).where(
        Dispute.tenant_id == closing.tenant_id, Dispute.outcome == DisputeOutcome.UPHELD
    )
    earlier = and_(
        StatedTrack.tenant_id == closing.tenant_id,
        StatedTrack.closing_id != closing.id,
        StatedTrack.attribution_id.in_(upheld),
    )
    return _rows(-1, earlier, exists().where(_UPHELD), ~exists().where(_TAKEN_OUT))


def _rows(sign: int, which: ColumnElement[bool], *rows: ColumnElement[bool]) -> Select[str, str, int, int]:
    """Month, song, ±1 and ± exact amount of rows of influences, in such tracks.

    A result may sum to a little more than one (see `app.attributions.outcome.TOLERANCE`); it is scaled to one here,
    because no track counts for more than itself.
    """
    same = and_(StatedTrack.attribution_id == Influence.attribution_id, StatedTrack.tenant_id == Influence.tenant_id)
    whole = select(Influence.attribution_id, func.sum(Influence.share).label("whole")).join(StatedTrack, same)
    sums = whole.where(which).group_by(Influence.attribution_id).subquery()
    share = Influence.share / case((sums.c.whole > 1.0, sums.c.whole), else_=1.0)
    return (
        select(
            StatedTrack.month,
            Influence.song_id,
            literal(sign).label("tracks"),
            (sign * units(share)).label("amount"),
        )
        .join(StatedTrack, same)
        .join(sums, sums.c.attribution_id == Influence.attribution_id)
        .where(which, *rows)
    )


def _note_disputes(session: Session, closing: Closing) -> None:
    """Remember which disputes are settled in what is stated."""
    row = (Influence.attribution_id, Influence.song_id)
    settled = (
        select(*row, literal(closing.tenant_id), literal(closing.id))
        .join(StatedTrack, StatedTrack.attribution_id == Influence.attribution_id)
        .where(Influence.tenant_id == closing.tenant_id, StatedTrack.tenant_id == closing.tenant_id)
        .where(exists().where(_UPHELD), ~exists().where(_TAKEN_OUT))
    )
    columns = ["attribution_id", "song_id", "tenant_id", "closing_id"]
    session.execute(insert(StatedDispute).from_select(columns, settled))
