"""The commands `rootnote tenants …`."""

from contextlib import closing
from typing import Annotated

import typer

from app import show
from app.cli import options
from app.db import engines, reading, transaction
from app.models import DEFAULT_TENANT
from app.usage import service as usage

tenants = typer.Typer(help="What tenants may use, and what they used.", no_args_is_help=True)


@tenants.command()
def allow(
    tenant: Annotated[str, typer.Argument(help="Its id.")],
    requests: Annotated[int | None, typer.Option(min=0, help="Requests a minute; left out: no limit.")] = None,
    jobs: Annotated[int | None, typer.Option(min=0, help="Attributions a month; left out: no limit.")] = None,
) -> None:
    """Set what a tenant may use, in the database of the settings."""
    with closing(engines(options.settings())) as db, transaction(db) as session:
        usage.allow(session, tenant_id=tenant, requests_per_minute=requests, jobs_per_month=jobs)
    words = ("no limit" if limit is None else str(limit) for limit in (requests, jobs))
    options.say("{}: requests a minute: {}; jobs a month: {}".format(tenant, *words))


@tenants.command()
def used(tenant: Annotated[str, typer.Argument(help="Its id.")] = DEFAULT_TENANT) -> None:
    """Show what a tenant used, month by month, in the database of the settings."""
    with closing(engines(options.settings())) as db, reading(db) as session:
        show.usage(show.console(), tenant, usage.months(session, tenant_id=tenant))
