"""The commands `rootnote models …`."""

from pathlib import Path
from typing import Annotated

import typer

from app import up as embedded
from app.cli import options
from app.models import DEFAULT_TENANT

models = typer.Typer(help="The registered models.", no_args_is_help=True)


@models.command()
def register(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    name: Annotated[str | None, typer.Option(help="By default the folder's name.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose model it is.")] = DEFAULT_TENANT,
) -> None:
    """Register the model in a folder, with its training set and its index; its workers load it when they start."""
    embedded.register(options.settings(), folder, name, options.say, tenant)
