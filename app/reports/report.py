"""What was found for one track, as a document: everything that is needed to judge it and to find it again.

The same attribution gives the same document: its time is the end of the attribution, never now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import contains_eager

from app.attributions import service as attributions
from app.attributions.influence_schemas import influence_facts
from app.attributions.schemas import Audio, Result
from app.errors import NoResult
from app.models import Influence, Song
from app.reports.sealing import instant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from app.models import Attribution

TYPE, SCHEMA = "rootnote.report", 2
DISCLAIMERS = (
    "A share is a predicted part of what the model knows about the track. It is evidence of influence, not a finding of"
    " copying or of infringement.",
    "Scores and shares hold for this model and this index; those of other models or indexes are not comparable.",
    "What no song explains is unattributed. All shares and the unattributed remainder sum to one.",
    "Titles, identifiers and rights are those of the catalogue at the time of asking; everything else is as it was"
    " found.",
)
UNCALIBRATED = "The shares are not calibrated: they follow a provisional rule and have no unit."
_RIGHT = ("holder_id", "party", "role", "ipi", "isni", "share")
_RESULT = ("measure", "draws", "provenance", "reference_loss", "shares", "abstained", "unattributed", "reliability")


def document(session: Session, *, tenant_id: str, attribution_id: str) -> dict[str, Any]:
    """The report of an attribution; raises NotFound, NoResult unless it has succeeded."""
    row = attributions.get(session, tenant_id=tenant_id, attribution_id=attribution_id)
    result = Result.of(row)
    if result is None:
        raise NoResult(f"the attribution is {row.status}")
    return {
        "type": TYPE,
        "schema": SCHEMA,
        "attribution": _attribution(row),
        "track": Audio.of(row).model_dump(mode="json"),
        "model": {
            "id": row.model.id,
            "name": row.model.name,
            "digest": result.model_digest,
            "index_digest": result.index_digest,
        },
        "result": result.model_dump(mode="json", include={*_RESULT, "details"}),
        "influences": [_influence(each) for each in _influences(session, row)],
        "disclaimers": [*DISCLAIMERS, *([UNCALIBRATED] if result.shares == "uncalibrated" else [])],
    }


def _attribution(row: Attribution) -> dict[str, Any]:
    named = ("id", "external_id", "batch", "custom_id", "repeats", "prompt", "method", "counted")
    return {name: getattr(row, name) for name in named} | {
        "created_at": instant(row.created_at),
        "ended_at": row.finished_at and instant(row.finished_at),
    }


def _influences(session: Session, row: Attribution) -> Iterable[Influence]:
    whole = contains_eager(Influence.song).selectinload(Song.rights)
    query = select(Influence).join(Influence.song).options(whole)
    whose = (Influence.attribution_id == row.id, Influence.tenant_id == row.tenant_id, Song.tenant_id == row.tenant_id)
    return session.scalars(query.where(*whose).order_by(Influence.rank))


def _influence(row: Influence) -> dict[str, Any]:
    song = {name: getattr(row.song, name) for name in ("id", "key", "title", "artist", "isrc", "iswc")}
    rights = [{name: getattr(right, name) for name in _RIGHT} for right in row.song.rights]
    return {"song": song | {"rights": rights}} | influence_facts(row)
