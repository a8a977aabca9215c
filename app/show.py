"""What the command line shows: a job's progress, a ranking, a history."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.attributions.influence_schemas import InfluenceRow
from app.attributions.schemas import Attribution, Result
from app.attributions.waiting import ENDED
from app.catalogue.schemas import HistoryRow, ImportReport, Song
from app.client import Watch
from app.models import ApiKey, Stage, Status, Usage

PLAIN_WIDTH = 110


def console(*, stderr: bool = False) -> Console:
    """Return a console that is wide enough for a ranking where nobody says how wide it is."""
    plain = Console(stderr=stderr, highlight=False)
    return plain if plain.is_terminal else Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)


def usage(out: Console, tenant: str, months: Iterable[Usage]) -> None:
    """Show what a tenant used, a line a month."""
    table = Table("month", title=f"Used by {escape(tenant)}", title_justify="left")
    for name in ("jobs", "audio, s", "device, s"):
        table.add_column(name, justify="right")
    for each in months:
        table.add_row(each.month, str(each.jobs), f"{each.audio_s:.1f}", f"{each.device_s:.1f}")
    out.print(table)


def keys(out: Console, made: Iterable[ApiKey]) -> None:
    """Show keys, a line each; of a key itself only how it begins."""
    table = Table("id", "key", "tenant", "name", "scopes", "made", "until", "last used")
    for each in made:
        end = "revoked" if each.revoked_at else _day(each.expires_at) or "no end"
        scopes = f"{', '.join(each.scopes)}{f' of {each.holder_id}' if each.holder_id else ''}"
        whose = (each.id, f"{each.prefix}…", each.tenant_id, each.name, scopes)
        table.add_row(*map(escape, whose), _day(each.created_at), end, _day(each.last_used_at) or "never")
    out.print(table)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""


def error(out: Console, title: str, detail: str) -> None:
    """Show what went wrong, in words."""
    out.print(f"[bold red]{escape(title)}[/]")
    if detail != title:
        out.print(escape(detail), soft_wrap=True)


@contextmanager
def progress(out: Console) -> Iterator[Watch]:
    """Show every answer about a job as it comes: one changing line on a terminal, else a line a stage."""
    if out.is_terminal:
        with out.status("sending") as status:
            yield lambda seen: status.update(_standing(seen))
    else:
        shown: list[str] = []

        def lines(seen: Attribution) -> None:
            for word in _passed(seen):
                if word not in shown:
                    shown.append(word)
                    out.print(f"  {word}")

        yield lines


def ranking(out: Console, attribution: Attribution, rows: Iterable[InfluenceRow]) -> None:
    """Show the ranked songs, the remainder that no song explains, and how far it can be trusted."""
    table = Table(title=f"Songs behind {escape(attribution.audio.filename or attribution.id)}", title_justify="left")
    for name in ("#", "title", "artist"):
        table.add_column(name, justify="right" if name == "#" else "left", overflow="fold")
    for name in ("score", "effect", "share", "90 %", "background"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        song = (escape(row.song.title), escape(row.song.artist))
        numbers = (_number(row.score, ".3g"), _number(row.effect, ".3g"), f"{row.share:.1%}", _interval(row))
        table.add_row(str(row.rank), *song, *numbers, f"{row.background_percentile:.0f} %")
    out.print(table)
    out.print("background: per cent of unrelated generated tracks that score lower for the song", style="dim")
    if attribution.result is not None:
        _result(out, attribution.result)


def _result(out: Console, result: Result) -> None:
    chance = result.provenance.probability
    told = "" if chance is None else f" (probability {chance:.3f})"
    out.print(f"provenance: {result.provenance.verdict}{told}")
    if result.abstained is not None:
        out.print(f"[bold]no shares:[/] {escape(result.abstained)}", soft_wrap=True)
    known = "" if result.reference_loss is None else f", reference loss {result.reference_loss:.3g}"
    out.print(f"unattributed: {result.unattributed or 0:.1%} (shares {result.shares}{known})")
    out.print(f"method: {result.method}, reliability: {_reliability(result.reliability)}")
    out.print(f"seconds: {_seconds(result.timings)}", soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _interval(row: InfluenceRow) -> str:
    if row.share_low is None or row.share_high is None:
        return "–"
    return f"{100 * row.share_low:.1f}–{100 * row.share_high:.1f} %"


def history(out: Console, song: Song, rows: Iterable[HistoryRow]) -> None:
    """Show in which tracks a song was found."""
    table = Table(title=f"Influence history of {escape(song.title)} by {escape(song.artist)}", title_justify="left")
    for name in ("when", "track", "model"):
        table.add_column(name, overflow="fold")
    for name in ("rank", "score", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        track = row.attribution.filename or row.attribution.id
        names = (f"{row.at:%Y-%m-%d %H:%M:%S} UTC", escape(track), escape(row.model.name))
        table.add_row(*names, str(row.rank), f"{row.score:.4g}", f"{row.share:.1%}")
    out.print(table)
    if not table.row_count:
        out.print("found in no track yet")


def imported(out: Console, report: ImportReport, failed: Mapping[str, str] | None = None) -> None:
    """Show what an import did, and which files failed."""
    would = "would be " if report.dry_run else ""
    counts = f"{report.created} {would}created, {report.updated} {would}updated, {report.unchanged} unchanged"
    out.print(f"{report.rows} rows: {counts}, {len(report.errors)} left out")
    for kind, each in [("error", row) for row in report.errors] + [("warning", row) for row in report.warnings]:
        place = f"line {each.line}" if each.column is None else f"line {each.line}, column {each.column}"
        out.print(escape(f"  {place}, {each.field or 'whole line'}: {kind}: {each.message}"), soft_wrap=True)
    for name, why in (failed or {}).items():
        out.print(escape(f"  {name}: error: {why}"), soft_wrap=True)
    if report.ignored_columns:
        out.print(escape(f"  columns not known and left out: {', '.join(report.ignored_columns)}"))


def _passed(seen: Attribution) -> tuple[str, ...]:
    """Name every state up to the present one: a quick job passes several between two looks."""
    if seen.status is Status.SUCCEEDED:
        return (*Stage, seen.status)
    if seen.status is Status.RUNNING and seen.stage is not None:
        return tuple(Stage)[: tuple(Stage).index(seen.stage) + 1]
    return (seen.status,)


def _word(seen: Attribution) -> str:
    return str(seen.status if seen.status in ENDED or seen.stage is None else seen.stage)


def _standing(seen: Attribution) -> str:
    running = seen.status not in ENDED and seen.stage is not None
    return f"{_word(seen)} {seen.progress:.0%}" if running else _word(seen)


def _reliability(facts: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name} {value:.2f}" for name, value in facts.items() if isinstance(value, int | float))
    return f"{facts.get('verdict', 'unknown')} ({rest})" if rest else str(facts.get("verdict", "unknown"))


def _seconds(timings: Mapping[str, float]) -> str:
    each = ", ".join(f"{name} {seconds:.2f}" for name, seconds in timings.items())
    return f"{each}; together {sum(timings.values()):.2f}"
