"""The commands `rootnote keys …`, in the database of the settings."""

from contextlib import closing
from datetime import timedelta
from typing import Annotated

import typer

from app import migrate, show
from app.access import keys as access
from app.access.scopes import Scope
from app.cli import options
from app.db import engines, now, reading
from app.models import DEFAULT_TENANT, ApiKey

keys = typer.Typer(help="API keys.", no_args_is_help=True)

Named = Annotated[str, typer.Argument(metavar="KEY", help="A key's id, or what is shown of it.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = DEFAULT_TENANT,
    scope: Annotated[list[Scope] | None, typer.Option(help="Once for each; left out: all but admin.")] = None,
    holder: Annotated[str | None, typer.Option(help="Id of the rights-holder whose key it is.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it is good; left out: without end.")] = None,
) -> None:
    """Make a key and show it, once."""
    migrate.upgrade(options.settings())
    with options.acting("keys create", tenant) as session:
        end = None if days is None else now(session) + timedelta(days=days)
        scopes = frozenset(scope) if scope else None
        key, secret = access.create(session, access.NewKey(tenant, name, scopes, holder, end))
    _tell(key, secret)


@keys.command(name="list")
def list_(tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None) -> None:
    """Show every key: whose, for what, since when, until when, when it was used."""
    with closing(engines(options.settings())) as db, reading(db) as session:
        show.keys(show.console(), access.listed(session, tenant))


@keys.command()
def rotate(
    key: Named, hours: Annotated[float, typer.Option(min=0, help="How long the old one stays good.")] = 24.0
) -> None:
    """Make a key in place of another one and show it, once."""
    with options.acting("keys rotate", _owner(key), key) as session:
        old = access.named(session, key)
        new, secret = access.rotate(session, old, timedelta(hours=hours))
    options.say(f"{old.prefix}… is good until {old.expires_at:%Y-%m-%d %H:%M} UTC.")
    _tell(new, secret)


@keys.command()
def revoke(key: Named) -> None:
    """End a key, and every session that was opened with it, now."""
    with options.acting("keys revoke", _owner(key), key) as session:
        ended = access.named(session, key)
        access.revoke(session, ended)
    options.say(f"{ended.prefix}… ({ended.name}) is revoked.")


def _owner(key: str) -> str:
    with closing(engines(options.settings())) as db, reading(db) as session:
        return access.named(session, key).tenant_id


def _tell(key: ApiKey, secret: str) -> None:
    options.say(f"{key.name}, id {key.id}, for {key.tenant_id}: {', '.join(key.scopes)}")
    options.say("The key, which is not shown again:")
    options.say(secret)
