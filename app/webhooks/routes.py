"""Webhook endpoints over HTTP: parse, call the service, show."""

from fastapi import APIRouter, Response, status

from app import answers, errors
from app.access.scopes import Scope
from app.db import reading, transaction
from app.deps import CallerDep, DatabaseDep, PlaceDep, SettingsDep, aware, needs
from app.idempotency.routes import REFUSALS, OnceDep, OnceRoute
from app.problems import document
from app.webhooks import service
from app.webhooks.addresses import PrivateAddress, UnknownHost
from app.webhooks.schemas import (
    Delivery,
    DeliveryPage,
    Endpoint,
    EndpointChanges,
    EndpointPage,
    EndpointSecret,
    NewEndpoint,
    Queued,
    Replay,
    Rotation,
)

router = APIRouter(
    prefix="/v1/webhook-endpoints",
    tags=["webhooks"],
    route_class=OnceRoute,
    dependencies=[needs(Scope.WEBHOOKS_WRITE)],
)


@router.post(
    "",
    operation_id="createWebhookEndpoint",
    summary="Be told at an address what happens",
    status_code=status.HTTP_201_CREATED,
    response_model=EndpointSecret,
    responses=document(PrivateAddress, UnknownHost, errors.Conflict, *REFUSALS),
)
def create(database: DatabaseDep, settings: SettingsDep, once: OnceDep, wanted: NewEndpoint) -> Response:
    """Add an endpoint. The answer tells its secret, once: deliveries are signed with it after Standard Webhooks."""
    wish = wanted.wish(service.check(wanted.url, settings))
    with transaction(database) as session:
        made, secret = service.create(session, tenant_id=once.tenant_id, wish=wish, ident=once.id)
        shown = EndpointSecret.told(made, secret)
    return answers.json(shown, status.HTTP_201_CREATED, {"Location": f"{router.prefix}/{shown.id}"})


@router.get(
    "",
    operation_id="listWebhookEndpoints",
    summary="See the endpoints",
    response_model=EndpointPage,
    responses=document(errors.BadCursor),
)
def listing(database: DatabaseDep, caller: CallerDep, place: PlaceDep) -> Response:
    """Show the endpoints in the order of their making."""
    with reading(database) as session:
        found = service.page(session, tenant_id=caller.tenant_id, cursor=place.cursor, limit=place.limit)
    return answers.json(EndpointPage(items=[Endpoint.of(row) for row in found.items], next_cursor=found.next_cursor))


@router.get(
    "/{endpoint_id}",
    operation_id="getWebhookEndpoint",
    summary="See an endpoint",
    response_model=Endpoint,
    responses=document(errors.NotFound),
)
def get(database: DatabaseDep, caller: CallerDep, endpoint_id: str) -> Response:
    """Show where it is, what it wants, and whether it is enabled."""
    with reading(database) as session:
        shown = Endpoint.of(service.get(session, tenant_id=caller.tenant_id, endpoint_id=endpoint_id))
    return answers.json(shown)


@router.patch(
    "/{endpoint_id}",
    operation_id="changeWebhookEndpoint",
    summary="Change an endpoint",
    response_model=Endpoint,
    responses=document(errors.NotFound, PrivateAddress, UnknownHost),
)
def change(
    database: DatabaseDep, settings: SettingsDep, caller: CallerDep, endpoint_id: str, changes: EndpointChanges
) -> Response:
    """Change what is given. One that was disabled is enabled with `enabled: true`; what it missed can be replayed."""
    wish = changes.wish(None if changes.url is None else service.check(changes.url, settings))
    with transaction(database) as session:
        found = service.change(session, tenant_id=caller.tenant_id, endpoint_id=endpoint_id, wish=wish)
        shown = Endpoint.of(found)
    return answers.json(shown)


@router.delete(
    "/{endpoint_id}",
    operation_id="deleteWebhookEndpoint",
    summary="Delete an endpoint",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=document(errors.NotFound),
)
def delete(database: DatabaseDep, caller: CallerDep, endpoint_id: str) -> None:
    """Delete it with its secrets and the record of its deliveries; events stay for other endpoints."""
    with transaction(database) as session:
        service.remove(session, tenant_id=caller.tenant_id, endpoint_id=endpoint_id)


@router.post(
    "/{endpoint_id}/secret",
    operation_id="rotateWebhookSecret",
    summary="Give an endpoint a new secret",
    response_model=EndpointSecret,
    responses=document(errors.NotFound, errors.Conflict),
)
def rotate(database: DatabaseDep, caller: CallerDep, endpoint_id: str, rotation: Rotation) -> Response:
    """Make a new secret, told once. The ones before sign beside it until the overlap is over."""
    with transaction(database) as session:
        found, secret = service.rotate(
            session, tenant_id=caller.tenant_id, endpoint_id=endpoint_id, overlap_s=rotation.overlap_seconds
        )
        shown = EndpointSecret.told(found, secret)
    return answers.json(shown)


@router.post(
    "/{endpoint_id}/test",
    operation_id="testWebhookEndpoint",
    summary="Send an event that means nothing",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Queued,
    responses=document(errors.NotFound, errors.Conflict),
)
def test(database: DatabaseDep, caller: CallerDep, endpoint_id: str) -> Response:
    """Queue an event of the type `endpoint.test` for this endpoint alone."""
    with transaction(database) as session:
        event_id = service.test(session, tenant_id=caller.tenant_id, endpoint_id=endpoint_id)
    return answers.json(Queued(events=1, event_id=event_id), status.HTTP_202_ACCEPTED)


@router.get(
    "/{endpoint_id}/deliveries",
    operation_id="listWebhookDeliveries",
    summary="See what an endpoint was told",
    response_model=DeliveryPage,
    responses=document(errors.NotFound, errors.BadCursor),
)
def deliveries(database: DatabaseDep, caller: CallerDep, place: PlaceDep, endpoint_id: str) -> Response:
    """Show its deliveries, the newest first, with what each attempt met."""
    with reading(database) as session:
        found = service.deliveries(
            session, tenant_id=caller.tenant_id, endpoint_id=endpoint_id, cursor=place.cursor, limit=place.limit
        )
        shown = [Delivery.of(row) for row in found.items]
    return answers.json(DeliveryPage(items=shown, next_cursor=found.next_cursor))


@router.post(
    "/{endpoint_id}/replay",
    operation_id="replayWebhookEvents",
    summary="Have events delivered again",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Queued,
    responses=document(errors.NotFound, errors.Conflict),
)
def replay(database: DatabaseDep, caller: CallerDep, endpoint_id: str, wanted: Replay) -> Response:
    """Queue one event, or all since a time, under the ids that they always had, also where they were delivered."""
    if (wanted.event_id is None) == (wanted.since is None):
        raise errors.InvalidRequest("give either event_id or since")
    events = 1
    with transaction(database) as session:
        whose = {"tenant_id": caller.tenant_id, "endpoint_id": endpoint_id}
        if wanted.event_id is not None:
            service.replay(session, **whose, event_id=wanted.event_id)
        elif wanted.since is not None:
            events = service.replay_since(session, **whose, since=aware(wanted.since))
    return answers.json(Queued(events=events, event_id=wanted.event_id), status.HTTP_202_ACCEPTED)
