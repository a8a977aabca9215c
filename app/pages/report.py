"""The report of an attribution: while it waits, how it stands; once it has ended, what was found or why not."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from sqlalchemy.orm import Session

from app.access.scopes import Scope
from app.attributions import service as attributions
from app.attributions.influence_schemas import InfluenceRow
from app.attributions.schemas import Attribution
from app.attributions.waiting import ENDED
from app.counterfactuals import service as counterfactuals
from app.counterfactuals.schemas import Counterfactual
from app.db import reading
from app.deps import CallerDep, DatabaseDep, WriteDep, needs
from app.disputes import service as disputes
from app.disputes.schemas import Dispute, NewDispute, NewReview
from app.models import Influence, Stage
from app.pages import charts, verdicts
from app.pages.heat import Line, heat
from app.pages.rendering import PageRoute, leading_to, page, same_origin
from app.usage.routes import within_quota

router = APIRouter(
    route_class=PageRoute, include_in_schema=False, dependencies=[Depends(same_origin), Depends(within_quota)]
)

MOST = 200
TRIED = 12
MATCHED = 10
"""Songs in the heat map."""


@dataclass(frozen=True)
class Found:
    """An attribution with its ranking and its disputes."""

    attribution: Attribution
    lines: list[Line]
    disputes: list[Dispute]
    forgotten: list[Counterfactual]


@router.get("/attributions/{attribution_id}", dependencies=[needs(Scope.ATTRIBUTIONS_READ)])
def report(
    request: Request,
    database: DatabaseDep,
    caller: CallerDep,
    attribution_id: str,
    rows: Annotated[int, Query(ge=1, le=MOST)] = 10,
) -> Response:
    """Show an attribution."""
    with reading(database) as session:
        found = _found(session, caller.tenant_id, attribution_id)
    shown = found.attribution
    if shown.status not in ENDED:
        return page(request, "pending.html", attribution=shown, stages=list(Stage))
    if shown.result is None:
        return page(request, "unsuccessful.html", attribution=shown)
    return page(request, "report.html", rows=rows, **_shown(found, rows))


@router.post("/attributions/{attribution_id}/cancel", dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)])
def cancel(session: WriteDep, caller: CallerDep, attribution_id: str) -> Response:
    """Ask for an attribution's end."""
    attributions.cancel(session, tenant_id=caller.tenant_id, attribution_id=attribution_id)
    return leading_to(f"/attributions/{attribution_id}")


@router.post("/attributions/{attribution_id}/disputes", dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)])
def dispute(
    session: WriteDep, caller: CallerDep, attribution_id: str, given: Annotated[NewDispute, Form()]
) -> Response:
    """Record an objection to a row."""
    objection = disputes.Objection(given.song_id, given.by, given.reason, caller.key_id)
    disputes.raise_one(session, tenant_id=caller.tenant_id, attribution_id=attribution_id, objection=objection)
    return leading_to(f"/attributions/{attribution_id}#disputes")


@router.post(
    "/attributions/{attribution_id}/disputes/{dispute_id}/resolve",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
)
def resolve(
    session: WriteDep,
    caller: CallerDep,
    attribution_id: str,
    dispute_id: str,
    given: Annotated[NewReview, Form()],
) -> Response:
    """Record the review of a dispute."""
    review = disputes.Review(given.outcome, given.by, given.note, caller.key_id)
    disputes.resolve(
        session, tenant_id=caller.tenant_id, attribution_id=attribution_id, dispute_id=dispute_id, review=review
    )
    return leading_to(f"/attributions/{attribution_id}#disputes")


def _found(session: Session, tenant_id: str, attribution_id: str) -> Found:
    whose = {"tenant_id": tenant_id, "attribution_id": attribution_id}
    row, ranking = attributions.ranking(session, **whose, limit=MOST)
    objections = disputes.page(session, **whose, limit=MOST)
    tried = counterfactuals.page(session, **whose, limit=TRIED)
    return Found(
        Attribution.of(row),
        [_line(influence) for influence in ranking.items],
        [Dispute.of(each) for each in objections.items],
        [Counterfactual.of(each) for each in tried.items],
    )


def _line(influence: Influence) -> Line:
    return Line(InfluenceRow.of(influence), influence.song.audio_key is not None, influence.song.duration_s)


def _shown(found: Found, rows: int) -> dict[str, Any]:
    shown, result = found.attribution, found.attribution.result
    if result is None:
        raise ValueError("only a result can be shown")
    ranking = [line.row for line in found.lines]
    named = [(row.song.title, row.share) for row in ranking if row.share > 0]
    seconds = shown.audio.duration_s or 0.0
    return {
        "attribution": shown,
        "result": result,
        "lines": found.lines[:rows],
        "ranked": len(found.lines),
        "headline": verdicts.headline(result, ranking),
        "provenance": verdicts.provenance(result),
        "reliability": verdicts.reliability(result),
        "gauges": verdicts.gauges(result),
        "reservations": verdicts.reservations(result, ranking),
        "pieces": charts.pieces(named, result.unattributed or 0.0),
        "axis": charts.Axis.to(max((row.share_high or row.share for row in ranking[:rows]), default=0.0)),
        "heat": heat(found.lines[:MATCHED], seconds),
        "ticks": charts.Ticks.of(seconds) if seconds else charts.Ticks(()),
        "forgotten": found.forgotten,
        "disputes": found.disputes,
        "disputed": {each.song.id: each for each in found.disputes},
    }
