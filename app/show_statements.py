"""What the command line shows of closed months and statements; amounts are rounded here and exact in files."""

from collections.abc import Iterable
from decimal import Decimal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.models import Side
from app.statements.schemas import ClosedMonth, Statement, StatementLine


def closed(out: Console, months: Iterable[ClosedMonth]) -> None:
    """Show what closed months add up to, and under each what it corrects in earlier ones."""
    table = Table("month", "closed", title="Closed months, in tracks", title_justify="left")
    for name in ("statements", "tracks", "attributed", "recordings", "works"):
        table.add_column(name, justify="right")
    for month in months:
        for place, total in enumerate(month.totals):
            first = place == 0
            about = (month.month, f"{month.closed_at:%Y-%m-%d}", str(month.statements))
            sums = (total.attributed, total.recordings.claimed, total.works.claimed)
            start = about if first else (f"  corrects {total.month}", "", "")
            table.add_row(*start, str(total.tracks), *map(_tracks, sums))
    out.print(table)


def statements(out: Console, found: Iterable[Statement]) -> None:
    """Show statements, a line each."""
    table = Table("month", "holder", "id", title="Statements, in tracks", title_justify="left")
    for name in ("recordings", "works", "lines"):
        table.add_column(name, justify="right")
    for each in found:
        sums = (_tracks(each.recordings), _tracks(each.works), str(each.lines))
        table.add_row(each.month, escape(each.holder.name), each.id, *sums)
    out.print(table)


def statement(out: Console, whole: Statement, lines: Iterable[StatementLine]) -> None:
    """Show a statement and its lines."""
    table = Table(title=f"{escape(whole.holder.name)}, {whole.month}, in tracks", title_justify="left")
    for name in ("song", "ISRC or ISWC", "role"):
        table.add_column(name, overflow="fold")
    for name in ("share", "found in", "amount", "corrects"):
        table.add_column(name, justify="right")
    for line in lines:
        song = line.song
        code = song.isrc if line.side == Side.RECORDING else song.iswc
        numbers = (f"{float(line.share):.2%}", str(line.tracks), _tracks(line.amount))
        corrects = "" if line.corrects is None else line.corrects.month
        table.add_row(escape(f"{song.title} by {song.artist}"), code or "–", line.role, *numbers, corrects)
    out.print(table)
    out.print(f"recordings: {_tracks(whole.recordings)}, works: {_tracks(whole.works)}")


def _tracks(amount: str) -> str:
    return f"{Decimal(amount):.4f}"
