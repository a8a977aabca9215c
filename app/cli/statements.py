"""Commands about statements of rights-holders."""

from enum import StrEnum
from typing import Annotated

import typer

from app import show, show_statements
from app.cli import options
from app.cli.options import Json, Url
from app.cli.reports import Out

statements = typer.Typer(help="Months closed, and what they owe to rights-holders.", no_args_is_help=True)

Ident = Annotated[str, typer.Argument(metavar="STATEMENT", help="A statement's id.")]


class Form(StrEnum):
    """What a statement is written as: signed JSON, CSV, or a flat file keyed by ISRC and ISWC."""

    JSON = "json"
    CSV = "csv"
    TSV = "tsv"


@statements.command()
def close(
    month: Annotated[str, typer.Argument(help="YYYY-MM; it must be over.")], json: Json = False, url: Url = None
) -> None:
    """Close a month: write every holder's statement, once."""
    with options.connect(url) as client:
        closed = client.close_month(month)
    if json:
        options.as_json(closed)
    else:
        show_statements.closed(show.console(), [closed])


@statements.command()
def months(json: Json = False, url: Url = None) -> None:
    """Show the months that are closed and what they add up to."""
    with options.connect(url) as client:
        closed = list(client.closed_months())
    if json:
        for each in closed:
            options.as_json(each)
    else:
        show_statements.closed(show.console(), closed)


@statements.command(name="list")
def list_(
    month: Annotated[str | None, typer.Option(help="Only those of this month, YYYY-MM.")] = None,
    holder: Annotated[str | None, typer.Option(help="Only those of the holder of this id.")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Find statements."""
    wanted = {name: value for name, value in (("month", month), ("holder", holder)) if value}
    with options.connect(url) as client:
        found = list(client.statements(**wanted))
    if json:
        for each in found:
            options.as_json(each)
    else:
        show_statements.statements(show.console(), found)


def statement(
    ident: Ident,
    form: Annotated[Form | None, typer.Option("--as", help="Write it as this, instead of showing it.")] = None,
    out: Out = None,
    url: Url = None,
) -> None:
    """Show a statement with its lines, or write it as signed JSON, as CSV or as a flat file."""
    with options.connect(url) as client:
        if form is not None:
            options.write(client.statement_file(ident, form), out)
        else:
            show_statements.statement(show.console(), client.statement(ident), client.statement_lines(ident))
