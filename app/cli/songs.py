"""The commands `rootnote songs …`."""

from pathlib import Path
from typing import Annotated

import typer

from app import bringing, show
from app.cli import options
from app.cli.options import Json, Url

songs = typer.Typer(help="The catalogue.", no_args_is_help=True)


@songs.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(exists=True, readable=True, help="A CSV file, or a folder of recordings.")],
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    audio: Annotated[bool, typer.Option(help="Of a folder, send the recordings too.")] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Add or change the songs of a CSV file, or of a folder of recordings by their tags."""
    with options.connect(url) as client:
        if source.is_dir():
            brought = bringing.folder(client, source, dry_run=dry_run, audio=audio)
            report, failed = brought.report, brought.failed
        else:
            report, failed = client.import_songs(source, dry_run=dry_run), {}
    if json:
        options.as_json(report)
    else:
        show.imported(show.console(), report, failed)
    if report.errors or failed:
        raise typer.Exit(1)
