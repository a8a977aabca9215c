"""Commands about holders of rights, and about what they allow."""

from datetime import datetime
from typing import Annotated

import typer

from app.catalogue.policy_schemas import ModelAudit
from app.cli import options
from app.cli.options import Json, Url


def holders(
    q: Annotated[str | None, typer.Argument(help="Words of the name; each may be unfinished.")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Find rights-holders."""
    with options.connect(url) as client:
        found = list(client.holders(**({"q": q} if q else {})))
    for each in found:
        if json:
            options.as_json(each)
        else:
            numbers = ", ".join(f"{kind} {code}" for kind, code in (("IPI", each.ipi), ("ISNI", each.isni)) if code)
            options.say(f"{each.id} {each.name}{numbers and f' ({numbers})'}")


def audit(
    model: Annotated[str, typer.Argument(help="A model's name or id.")],
    at: Annotated[datetime | None, typer.Option(help="Another time (UTC) than that of its training.")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Say which songs a model was trained on without permission at the time; exit status 1 if there are any."""
    with options.connect(url) as client:
        found = client.audit(model, **({} if at is None else {"at": at.isoformat()}))
    if json:
        options.as_json(found)
    else:
        _say(found)
    raise typer.Exit(found.without_permission > 0)


def _say(found: ModelAudit) -> None:
    options.say(f"{found.model.name}: {found.songs} songs, by what was allowed at {found.at:%Y-%m-%d %H:%M} UTC")
    for each in found.items:
        since = "" if each.valid_from is None else f" since {each.valid_from:%Y-%m-%d}"
        until = "" if each.valid_to is None else f" until {each.valid_to:%Y-%m-%d}"
        why = "nothing was stated" if each.policy is None else f"{each.policy}{since}{until}"
        options.say(f"  {each.song.key}: {each.song.title} by {each.song.artist}: {why}")
    options.say(f"without permission: {found.without_permission}; allowed within limits: {found.limited}")
