"""What several commands are given, and how they speak."""

import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.markup import escape
from sqlalchemy.orm import Session

from app import show
from app.access import audit
from app.client import Client
from app.config import Settings
from app.db import engines, transaction

Url = Annotated[str | None, typer.Option(envvar="ROOTNOTE_URL", help="Where the service is; by default, here.")]
Json = Annotated[bool, typer.Option("--json", help="Say it as JSON, for scripts.")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]


def settings(**given: Any) -> Settings:
    """Return the settings of the environment, changed by the options that were given."""
    return Settings(**{name: value for name, value in given.items() if value is not None})


def address(given: str | None) -> str:
    """Return where the service is."""
    here = settings()
    return given or f"http://{here.host}:{here.port}"


def connect(given: str | None) -> Client:
    """Return a client of the service at that address, by default of the one here, with the key of the settings."""
    key = settings().key
    return Client(address(given), key=None if key is None else key.get_secret_value())


def say(line: str) -> None:
    """Print one line as it is."""
    show.console().print(escape(line), soft_wrap=True)


def as_json(found: BaseModel) -> None:
    """Print an answer as one line of JSON."""
    typer.echo(found.model_dump_json())


def write(data: bytes, out: Path | None) -> None:
    """Write bytes as they are to a file, or to standard output. Raises OSError."""
    if out is None:
        typer.echo(data, nl=False)
    else:
        out.write_bytes(data)
        say(f"Wrote {out}")


def until_signal() -> threading.Event:
    """Return what SIGINT or SIGTERM set; a second one ends the process the default way."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return stop


@contextmanager
def acting(action: str, tenant_id: str, ident: str | None = None) -> Iterator[Session]:
    """Yield a session of the settings' database in which a command acts for a tenant; the audit log says so.

    Raises DatabaseUnavailable.
    """
    who = audit.by_command(tenant_id, action, ident)
    with closing(engines(settings())) as db, transaction(db.on_behalf_of(who)) as session:
        yield session
