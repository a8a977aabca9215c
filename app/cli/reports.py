"""Commands about signed reports."""

from pathlib import Path
from typing import Annotated

import typer

from app import migrate
from app.cli import options
from app.cli.options import File, Url
from app.errors import BadKey
from app.models import DEFAULT_TENANT
from app.reports import keys, sealing
from app.reports.schemas import Verification

report_keys = typer.Typer(help="The keys that sign reports.", no_args_is_help=True)

Out = Annotated[Path | None, typer.Option(help="The file to write; left out: standard output.")]


def report(
    attribution: Annotated[str, typer.Argument(help="An attribution's id.")],
    csv: Annotated[bool, typer.Option("--csv", help="The influences as a table, without a signature.")] = False,
    out: Out = None,
    url: Url = None,
) -> None:
    """Get the signed report of an attribution."""
    with options.connect(url) as client:
        options.write(client.report_table(attribution) if csv else client.report(attribution), out)


def verify(
    file: File,
    key: Annotated[
        str | None, typer.Option(help="A public key, or a file that holds one: then no service is asked.")
    ] = None,
    json: options.Json = False,
    url: Url = None,
) -> None:
    """Say whether a file is a report or statement that was signed, unchanged to the last byte; exit status 1 if not."""
    data = file.read_bytes()
    if key is None:
        with options.connect(url) as client:
            found = client.verify(data)
    else:
        found = _with(key, data)
    if json:
        options.as_json(found)
    elif found.valid:
        options.say(f"valid: {found.type}, version {found.schema_}, of {found.subject}, signed with {found.key_id}")
    else:
        options.say(f"not valid: {found.reason}")
    raise typer.Exit(not found.valid)


@report_keys.command(name="list")
def list_(json: options.Json = False, url: Url = None) -> None:
    """Show every public key that documents were signed with, the newest first."""
    with options.connect(url) as client:
        found = client.report_keys()
    for each in found:
        if json:
            options.as_json(each)
        else:
            options.say(f"{each.id} {each.public_key} since {each.created_at:%Y-%m-%d}{', signs' * each.signs}")


@report_keys.command()
def rotate() -> None:
    """Make a new key to sign with, in the place that the settings name; what was signed stays valid."""
    settings = options.settings()
    migrate.upgrade(settings)  # without a database that can say so, nothing is replaced
    made = sealing.key_id(keys.rotate(settings).public_key())
    with options.acting("report-keys rotate", DEFAULT_TENANT, made):
        options.say(f"{keys.path(settings)} now holds the key {made}")


def _with(key: str, data: bytes) -> Verification:
    """Verify with a key that is given: no service, no network. Raises BadKey."""
    file = Path(key)
    try:
        public = keys.public(file.read_text() if len(key) < 256 and file.is_file() else key)
    except UnicodeDecodeError as error:
        raise BadKey(f"{key} is not text") from error
    named = sealing.key_id(public)
    return Verification.of(sealing.unseal(data, lambda ident: public if ident == named else None))
