"""The commands `rootnote songs …`."""

from typing import Annotated

import typer

from app import show
from app.cli import options
from app.cli.options import File, Url

songs = typer.Typer(help="The catalogue.", no_args_is_help=True)


@songs.command(name="import")
def import_(
    file: File, dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False, url: Url = None
) -> None:
    """Add or change the songs of a CSV file."""
    with options.connect(url) as client:
        report = client.import_songs(file, dry_run=dry_run)
    show.imported(show.console(), report)
    if report.errors:
        raise typer.Exit(1)
