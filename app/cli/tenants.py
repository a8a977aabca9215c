"""The commands `rootnote tenants …`."""

import re
from contextlib import closing
from typing import Annotated

import typer

from app import migrate, show
from app.access import keys as access
from app.cli import options
from app.db import engines, reading
from app.errors import InvalidRequest
from app.models import DEFAULT_TENANT
from app.usage import service as usage

tenants = typer.Typer(help="Tenants: who they are, what they may use, what they used.", no_args_is_help=True)


_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


@tenants.command()
def create(
    tenant: Annotated[str, typer.Argument(help="Its id: lower-case letters, digits, - and _.")],
    name: Annotated[str | None, typer.Option(help="What it is called; by default, its id.")] = None,
) -> None:
    """Add a tenant to the database of the settings; `rootnote keys create --tenant` lets it in."""
    if not _ID.fullmatch(tenant):
        raise InvalidRequest(f"{tenant!r} is no id of a tenant: lower-case letters, digits, - and _, at most 64")
    migrate.upgrade(options.settings())
    with options.acting("tenants create", tenant, tenant) as session:
        access.create_tenant(session, tenant, name or tenant)
    options.say(f"Tenant {tenant}. A key for it: rootnote keys create NAME --tenant {tenant}")


@tenants.command()
def allow(
    tenant: Annotated[str, typer.Argument(help="Its id.")],
    requests: Annotated[int | None, typer.Option(min=0, help="Requests a minute; left out: no limit.")] = None,
    jobs: Annotated[int | None, typer.Option(min=0, help="Attributions a month; left out: no limit.")] = None,
) -> None:
    """Set what a tenant may use, in the database of the settings."""
    with options.acting("tenants allow", tenant, tenant) as session:
        usage.allow(session, tenant_id=tenant, requests_per_minute=requests, jobs_per_month=jobs)
    words = ("no limit" if limit is None else str(limit) for limit in (requests, jobs))
    options.say("{}: requests a minute: {}; jobs a month: {}".format(tenant, *words))


@tenants.command()
def keep(
    tenant: Annotated[str, typer.Argument(help="Its id.")],
    days: Annotated[int | None, typer.Option(min=0, help="Days after a job's end; left out: for good.")] = None,
) -> None:
    """Set for how long a tenant's uploads are kept; results stay."""
    with options.acting("tenants keep", tenant, tenant) as session:
        access.tenant(session, tenant).audio_days = days
    options.say(f"{tenant}: uploads are kept {'for good' if days is None else f'{days} days after their job ends'}")


@tenants.command()
def share(
    tenant: Annotated[str, typer.Argument(help="Its id.")],
    external_ids: Annotated[bool, typer.Option(help="Whether rights-holders see the tracks' external ids.")],
) -> None:
    """Set what a tenant's rights-holders are told of tracks beside an id."""
    with options.acting("tenants share", tenant, tenant) as session:
        access.tenant(session, tenant).shows_external_ids = external_ids
    options.say(f"{tenant}: rights-holders {'see' if external_ids else 'do not see'} external ids")


@tenants.command()
def used(tenant: Annotated[str, typer.Argument(help="Its id.")] = DEFAULT_TENANT) -> None:
    """Show what a tenant used, month by month, in the database of the settings."""
    with closing(engines(options.settings())) as db, reading(db) as session:
        show.usage(show.console(), tenant, usage.months(session, tenant_id=tenant))
