"""What became of the jobs, read from the database alone, and compared with what the caller was told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from app.attributions.states import ENDED
from app.catalogue import history
from app.db import reading
from app.models import Attribution, Influence, Model, Song, Status, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from app.config import Settings
    from app.db import Database

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Told:
    """What the caller knows: the ids that it holds a 202 for, with their names, and the ends that it was shown."""

    accepted: dict[str, str]
    ends: dict[str, str]


def waiting(db: Database) -> int:
    """Count the jobs without an end."""
    with reading(db) as session:
        return session.scalar(select(func.count()).where(Attribution.status.not_in(ENDED))) or 0


def judge(db: Database, told: Told, settings: Settings) -> dict[str, Any]:
    """Return every count; all but the first few are of broken promises, and 0 where there is none."""
    with reading(db) as session:
        rows = {row.id: row for row in session.scalars(select(Attribution))}
        results = _results(session, rows)
        sums = _sums(session, rows)
    mine = [rows[ident] for ident in told.accepted if ident in rows]
    ended = Counter(str(row.status) for row in mine)
    names = Counter(row.external_id for row in rows.values() if row.external_id)
    changed = sum(str(rows[ident].status) != end for ident, end in told.ends.items() if ident in rows)
    return {
        "jobs": len(told.accepted),
        "ended": dict(ended),
        "failures": dict(Counter(f"{row.error_type}, attempt {row.attempts}" for row in mine if row.error_type)),
        "attempts": dict(sorted(Counter(row.attempts for row in mine).items())),
        "rows_nobody_was_told_of": len(rows.keys() - told.accepted.keys()),
        "lost": len(told.accepted) - len(mine),
        "stuck": sum(row.status not in ENDED for row in rows.values()),
        "doubled": results.pop("doubled") + changed + sum(count > 1 for count in names.values()),
        "ends_that_changed": changed,
        "names_with_two_rows": sum(count > 1 for count in names.values()),
        **results,
        **sums,
        "attempts_above_the_cap": sum(row.attempts > settings.max_attempts for row in rows.values()),
        "failed_before_the_cap": sum(_early(row, settings) for row in mine),
        "leases_after_the_end": sum(row.status in ENDED and row.lease_token is not None for row in rows.values()),
    }


def _early(row: Attribution, settings: Settings) -> bool:
    """Whether a job failed although it had attempts left: no fault here may end one."""
    return row.status == Status.FAILED and row.attempts < settings.max_attempts


def _results(session: Session, rows: dict[str, Attribution]) -> dict[str, int]:
    """Every success has one whole result, nothing else has any."""
    columns = (Influence.attribution_id, Influence.rank, Influence.song_id, Influence.share)
    found: dict[str, list[Any]] = {}
    for row in session.execute(select(*columns).order_by(Influence.attribution_id, Influence.rank)):
        found.setdefault(row.attribution_id, []).append(row)
    songs = dict(session.execute(select(Model.id, Model.songs)).all())
    succeeded = [row for row in rows.values() if row.status == Status.SUCCEEDED]
    whole = [_whole(found.get(row.id, []), row, songs[row.model_id]) for row in succeeded]
    return {
        "doubled": sum(len(found.get(row.id, [])) > songs[row.model_id] for row in succeeded),
        "results_not_whole": whole.count(False),
        "results_without_success": sum(rows[ident].status != Status.SUCCEEDED for ident in found),
    }


def _whole(influences: list[Any], row: Attribution, songs: int) -> bool:
    ranks = [each.rank for each in influences]
    total = sum(each.share for each in influences) + (row.unattributed or 0.0)
    distinct = len({each.song_id for each in influences}) == len(influences)
    return ranks == list(range(1, songs + 1)) and distinct and abs(total - 1.0) < TOLERANCE


def _sums(session: Session, rows: dict[str, Attribution]) -> dict[str, int]:
    """What is added up over jobs equals the jobs: each song's history, and the tenants' months.

    A track counts once, and does where one of its attributions has succeeded.
    """
    succeeded = [row for row in rows.values() if row.status == Status.SUCCEEDED]
    counted = Counter((row.tenant_id, row.counts_as) for row in rows.values() if row.counted)
    tracks = {(row.tenant_id, row.counts_as) for row in succeeded}
    songs = session.execute(select(Song.tenant_id, Song.id)).all()
    totals = [sum(point.attributions for point in _history(session, *song)) for song in songs]
    metered = session.scalar(select(func.sum(Usage.jobs))) or 0
    return {
        "tracks_not_counted_once": sum(counted[track] != 1 for track in tracks | counted.keys()),
        "histories": len(totals),
        "histories_off": sum(total != len(tracks) for total in totals),
        "jobs_metered_wrongly": abs(int(metered) - len(rows)),
    }


def _history(session: Session, tenant_id: str, song_id: str) -> Iterable[history.Point]:
    return history.series(session, tenant_id=tenant_id, wanted=history.Wanted(song_id), bucket="day")
