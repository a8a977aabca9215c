"""The commands `rootnote webhooks …`: endpoints in the database of the settings."""

from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.cli import options
from app.db import engines, reading
from app.models import DEFAULT_TENANT
from app.webhooks import service
from app.webhooks.outbox import EventType
from app.webhooks.service import Wish

webhooks = typer.Typer(help="Addresses that are told what happens.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose.")]
Endpoint = Annotated[str, typer.Argument(help="Its id.")]


@webhooks.command(name="create")
def create(
    url: Annotated[str, typer.Argument(help="Public and https.")],
    event: Annotated[list[str] | None, typer.Option(help="A type that it wants; none: all. May be repeated.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Add an endpoint and print its secret, which is not shown again."""
    settings = options.settings()
    kinds = tuple(str(EventType.of(each)) for each in event or ())
    wish = Wish(service.check(url, settings), events=kinds)
    with options.acting("webhooks create", tenant) as session:
        made, secret = service.create(session, tenant_id=tenant, wish=wish)
    options.say(f"{made.id} {made.url}\nsecret: {secret}")


@webhooks.command(name="list")
def list_(tenant: Tenant = DEFAULT_TENANT) -> None:
    """List a tenant's endpoints."""
    with closing(engines(options.settings())) as db, reading(db) as session:
        found = service.page(session, tenant_id=tenant, limit=service.MAX_ENDPOINTS).items
    for each in found:
        state = f"disabled ({each.disabled_for})" if each.disabled_for else "enabled"
        options.say(f"{each.id} {each.url} {state} {','.join(each.events) or 'all events'}")


@webhooks.command()
def rotate(
    endpoint: Endpoint,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds that the old secret goes on signing.")] = 86_400,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Give an endpoint a new secret and print it."""
    with options.acting("webhooks rotate", tenant, endpoint) as session:
        _, secret = service.rotate(session, tenant_id=tenant, endpoint_id=endpoint, overlap_s=overlap)
    options.say(f"secret: {secret}")


@webhooks.command()
def enable(endpoint: Endpoint, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Enable an endpoint that was disabled."""
    with options.acting("webhooks enable", tenant, endpoint) as session:
        service.change(session, tenant_id=tenant, endpoint_id=endpoint, wish=Wish(enabled=True))
    options.say(f"{endpoint}: enabled")


@webhooks.command()
def replay(
    endpoint: Endpoint,
    since: Annotated[datetime, typer.Option(help="From this instant (UTC) on.")],
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Have all that an endpoint wants delivered again."""
    with options.acting("webhooks replay", tenant, endpoint) as session:
        events = service.replay_since(session, tenant_id=tenant, endpoint_id=endpoint, since=since.replace(tzinfo=UTC))
    options.say(f"{events} events are on their way again")


@webhooks.command()
def delete(endpoint: Endpoint, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Delete an endpoint."""
    with options.acting("webhooks delete", tenant, endpoint) as session:
        service.remove(session, tenant_id=tenant, endpoint_id=endpoint)
    options.say(f"{endpoint}: deleted")
