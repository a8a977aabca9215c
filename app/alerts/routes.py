"""Alerts over HTTP: parse, call the service, show."""

from fastapi import APIRouter, Response, status

from app import answers, errors
from app.access.scopes import Scope
from app.alerts import service
from app.alerts.schemas import Alert, AlertPage, NewAlert
from app.db import reading, transaction
from app.deps import CallerDep, DatabaseDep, PlaceDep, needs
from app.idempotency.routes import REFUSALS, OnceDep, OnceRoute
from app.problems import document

router = APIRouter(
    prefix="/v1/alerts", tags=["webhooks"], route_class=OnceRoute, dependencies=[needs(Scope.WEBHOOKS_WRITE)]
)


@router.post(
    "",
    operation_id="createAlert",
    summary="Be told when a song's influence passes a threshold",
    status_code=status.HTTP_201_CREATED,
    response_model=Alert,
    responses=document(errors.NotFound, errors.Conflict, *REFUSALS),
)
def create(database: DatabaseDep, once: OnceDep, wanted: NewAlert) -> Response:
    """Add an alert. Each crossing is one event `song.alert` to the webhook endpoints that want it.

    Without a window, each counted track in which the share reaches the threshold is a crossing. With one, the sum
    has to have been below before.
    """
    with transaction(database) as session:
        made = service.create(session, tenant_id=once.tenant_id, wanted=wanted.wanted(), ident=once.id)
        shown = Alert.model_validate(made)
    return answers.json(shown, status.HTTP_201_CREATED, {"Location": f"{router.prefix}/{shown.id}"})


@router.get(
    "",
    operation_id="listAlerts",
    summary="See the alerts",
    response_model=AlertPage,
    responses=document(errors.BadCursor),
)
def listing(database: DatabaseDep, caller: CallerDep, place: PlaceDep) -> Response:
    """Show the alerts in the order of their making."""
    with reading(database) as session:
        found = service.page(session, tenant_id=caller.tenant_id, cursor=place.cursor, limit=place.limit)
    items = [Alert.model_validate(row) for row in found.items]
    return answers.json(AlertPage(items=items, next_cursor=found.next_cursor))


@router.get(
    "/{alert_id}",
    operation_id="getAlert",
    summary="See an alert",
    response_model=Alert,
    responses=document(errors.NotFound),
)
def get(database: DatabaseDep, caller: CallerDep, alert_id: str) -> Response:
    """Show its threshold, and when it was passed last."""
    with reading(database) as session:
        shown = Alert.model_validate(service.get(session, tenant_id=caller.tenant_id, alert_id=alert_id))
    return answers.json(shown)


@router.delete(
    "/{alert_id}",
    operation_id="deleteAlert",
    summary="Delete an alert",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=document(errors.NotFound),
)
def delete(database: DatabaseDep, caller: CallerDep, alert_id: str) -> None:
    """Delete it; what it told stays told."""
    with transaction(database) as session:
        service.remove(session, tenant_id=caller.tenant_id, alert_id=alert_id)
