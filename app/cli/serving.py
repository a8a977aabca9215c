"""Commands that run the service, or a part of it."""

from pathlib import Path
from typing import Annotated

import typer

from app import backup as copies
from app import demo as demonstration
from app import logs, show, sweeper
from app import up as embedded
from app.cli import options
from app.webhooks import sending


def up(
    port: Annotated[int | None, typer.Option(help="Port of the API.")] = None,
    host: Annotated[str | None, typer.Option(help="Address of the API.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Start the service on the embedded set-up and keep serving."""
    embedded.serve(options.settings(port=port, host=host, data_dir=data), options.say, options.until_signal())


def demo() -> None:
    """Generate a track, post it to a service of its own, show which songs are behind it."""
    demonstration.run(options.settings(), show.console())


def migrate_() -> None:
    """Bring the database to the newest version and register the models of the settings."""
    embedded.prepare(options.settings(), options.say)


def deliver() -> None:
    """Run the sender: deliver events to webhook endpoints. Several may run."""
    settings = options.settings()
    logs.configure(settings)
    sending.run(settings, options.until_signal())


def sweep() -> None:
    """Run the sweeper: ring again for waiting jobs, end lapsed leases."""
    settings = options.settings()
    logs.configure(settings)
    sweeper.run(settings, options.until_signal())


def backup(folder: Annotated[Path, typer.Argument(help="An empty folder, or one to be made.")]) -> None:
    """Copy the embedded service into a folder while it runs: its database as of now, and every object."""
    copies.backup(options.settings(), folder, options.say)


def restore(folder: Annotated[Path, typer.Argument(help="A folder that `backup` filled.", exists=True)]) -> None:
    """Put a copy into the data folder, which must not hold a database; `rootnote up` goes on from there."""
    copies.restore(options.settings(), folder, options.say)
