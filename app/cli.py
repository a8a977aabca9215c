"""The command `rootnote`: start the service, talk to one, register models, generate tracks."""

import signal
import sys
import threading
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape

from app import demo as demonstration
from app import logs, show, sweeper
from app import up as embedded
from app.client import Client, Track
from app.config import Settings
from app.db import engines, reading, transaction
from app.errors import InvalidRequest, NotFound, ServiceError
from app.index_cli import index
from app.models import DEFAULT_TENANT
from app.usage import service as usage

HELP = "Which training songs influenced a generated track."
app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
songs = typer.Typer(help="The catalogue.", no_args_is_help=True)
models = typer.Typer(help="The registered models.", no_args_is_help=True)
tenants = typer.Typer(help="What tenants may use, and what they used.", no_args_is_help=True)
app.add_typer(songs, name="songs")
app.add_typer(models, name="models")
app.add_typer(index, name="index")
app.add_typer(tenants, name="tenants")

Url = Annotated[str | None, typer.Option(envvar="ROOTNOTE_URL", help="Where the service is; by default, here.")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]
SHOWN = 20


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="Port of the API.")] = None,
    host: Annotated[str | None, typer.Option(help="Address of the API.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Start the service on the embedded set-up and keep serving."""
    embedded.serve(_settings(port=port, host=host, data_dir=data), _say, _until_signal())


@app.command()
def demo() -> None:
    """Generate a track, post it to a service of its own, show which songs are behind it."""
    demonstration.run(_settings(), show.console())


@app.command(name="migrate")
def migrate_() -> None:
    """Bring the database to the newest version and register the models of the settings."""
    embedded.prepare(_settings(), _say)


@app.command()
def sweep() -> None:
    """Run the sweeper: ring again for waiting jobs, end lapsed leases."""
    settings = _settings()
    logs.configure(settings)
    sweeper.run(settings, _until_signal())


@app.command()
def attribute(  # noqa: PLR0913  a command's options are its interface
    file: File,
    prompt: Annotated[str | None, typer.Option(help="What the model was told.")] = None,
    method: Annotated[str | None, typer.Option(help="index or unlearn.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of a registered model.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many songs to show.")] = 10,
    url: Url = None,
) -> None:
    """Post a track and show which songs influenced it."""
    out = show.console()
    with Client(_url(url)) as client:
        with show.progress(out) as watch:
            done = client.attribute(Track(file, prompt=prompt, method=method, model=model, top_k=top), watch)
        show.ranking(out, done, islice(client.influences(done.id), top))


@app.command()
def history(
    song: Annotated[str, typer.Argument(help="An ISRC, or a song's id.")],
    rows: Annotated[int, typer.Option(min=1, help="How many tracks to show.")] = SHOWN,
    url: Url = None,
) -> None:
    """Show in which tracks a song was found."""
    with Client(_url(url)) as client:
        for found in _found(client, song):
            show.history(show.console(), found, islice(client.history(found.id), rows))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the track shall be.")],
    out: Annotated[Path, typer.Option(help="The .wav file to write.")] = Path("generated.wav"),
    seed: Annotated[int, typer.Option(help="Equal seeds give equal tracks.")] = 0,
    seconds: Annotated[float | None, typer.Option(help="Length; at most the model's own window.")] = None,
    folder: Annotated[Path | None, typer.Option(help="A model's folder; by default the first one set.")] = None,
) -> None:
    """Let a registered model make a track."""
    asked = demonstration.Asked(folder or _settings().models[0], prompt, seed, seconds)
    demonstration.generate(asked, out)
    _say(f"Wrote {out}")


@songs.command(name="import")
def import_(
    file: File, dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False, url: Url = None
) -> None:
    """Add or change the songs of a CSV file."""
    with Client(_url(url)) as client:
        report = client.import_songs(file, dry_run=dry_run)
    show.imported(show.console(), report)
    if report.errors:
        raise typer.Exit(1)


@models.command()
def register(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    name: Annotated[str | None, typer.Option(help="By default the folder's name.")] = None,
) -> None:
    """Register the model in a folder, with its training set and its index; its workers load it when they start."""
    embedded.register(_settings(), folder, name, _say)


@tenants.command()
def allow(
    tenant: Annotated[str, typer.Argument(help="Its id.")],
    requests: Annotated[int | None, typer.Option(min=0, help="Requests a minute; left out: no limit.")] = None,
    jobs: Annotated[int | None, typer.Option(min=0, help="Attributions a month; left out: no limit.")] = None,
) -> None:
    """Set what a tenant may use, in the database of the settings."""
    with closing(engines(_settings())) as db, transaction(db) as session:
        usage.allow(session, tenant_id=tenant, requests_per_minute=requests, jobs_per_month=jobs)
    words = ("no limit" if limit is None else str(limit) for limit in (requests, jobs))
    _say("{}: requests a minute: {}; jobs a month: {}".format(tenant, *words))


@tenants.command()
def used(tenant: Annotated[str, typer.Argument(help="Its id.")] = DEFAULT_TENANT) -> None:
    """Show what a tenant used, month by month, in the database of the settings."""
    with closing(engines(_settings())) as db, reading(db) as session:
        show.usage(show.console(), tenant, usage.months(session, tenant_id=tenant))


def main() -> None:
    """Run the command; what was to be expected ends in words and exit status 1, never in a traceback."""
    out = show.console(stderr=True)
    try:
        app()
    except ServiceError as failed:
        show.error(out, failed.title, failed.detail)
    except ValidationError as failed:
        show.error(out, "A setting is not valid", _wrong(failed))
    except OSError as failed:
        show.error(out, "The system did not allow it", str(failed))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1)


def _settings(**given: Any) -> Settings:
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _url(given: str | None) -> str:
    settings = _settings()
    return given or f"http://{settings.host}:{settings.port}"


def _say(line: str) -> None:
    show.console().print(escape(line), soft_wrap=True)


def _until_signal() -> threading.Event:
    """Return what SIGINT or SIGTERM set; a second one ends the process the default way."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return stop


def _found(client: Client, named: str) -> list[Any]:
    """Return the songs of an id or an ISRC. Raises NotFound."""
    try:
        return [client.song(named)]
    except NotFound:
        try:
            found = list(client.songs(isrc=named))
        except InvalidRequest:
            found = []
        if not found:
            raise NotFound(f"{named} is neither the id nor the ISRC of a song") from None
        return found


def _wrong(failed: ValidationError) -> str:
    """Say which setting is wrong."""
    names = (f"ROOTNOTE_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in failed.errors())
    return "; ".join(names)


if __name__ == "__main__":
    main()
