"""The command `rootnote`: start the service, talk to one, register models, generate tracks."""

import sys

import typer
from pydantic import ValidationError

from app import show
from app.cli import asking, forgetting, reports, rights, serving, statements
from app.cli.index import index
from app.cli.keys import keys
from app.cli.models import models
from app.cli.songs import songs
from app.cli.tenants import tenants
from app.cli.webhooks import webhooks
from app.errors import ServiceError

HELP = "Which training songs influenced a generated track."
app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (serving.up, serving.demo, serving.sweep, asking.attribute, asking.history, asking.generate):
    app.command()(command)
app.command()(serving.deliver)
app.command()(forgetting.forget)
app.command()(asking.wait)
app.command()(rights.holders)
app.command()(rights.audit)
app.command()(reports.report)
app.command()(reports.verify)
app.command()(statements.statement)
app.command(name="migrate")(serving.migrate_)
for keeping in (serving.backup, serving.restore):
    app.command()(keeping)
for group, name in ((songs, "songs"), (models, "models"), (index, "index"), (tenants, "tenants"), (keys, "keys")):
    app.add_typer(group, name=name)
app.add_typer(webhooks, name="webhooks")
app.add_typer(reports.report_keys, name="report-keys")
app.add_typer(statements.statements, name="statements")


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


def _wrong(failed: ValidationError) -> str:
    """Say which setting is wrong."""
    names = (f"ROOTNOTE_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in failed.errors())
    return "; ".join(names)
