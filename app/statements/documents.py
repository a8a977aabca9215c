"""A statement as a document to sign, as CSV, and as a flat file in the manner of DDEX sales reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.reports.sealing import instant
from app.reports.tables import Number, cell, table
from app.statements import service
from app.statements.amounts import PLACES, decimal, fraction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.orm import Session

    from app.models import ClosingTotal, Statement, StatementLine

TYPE, SCHEMA = "rootnote.statement", 1
DISCLAIMERS = (
    "Amounts are tracks: 1 is all of one generated track. What that is worth in money is between platform and holder.",
    "A share is a predicted part of what the model knows about the track. It is evidence of influence, not a finding of"
    " copying or of infringement.",
    "Recordings and works are two views of the same tracks and are not added together.",
    "A line with `corrects` changes what was stated for that month; nothing that was stated is edited.",
)
_SONG = ("title", "artist", "isrc", "iswc")
_COLUMNS = (
    "statement_id",
    "month",
    "holder",
    "side",
    *_SONG,
    "song_id",
    "role",
    "share",
    "tracks",
    "amount",
    "corrects",
)
_RECORDS = {
    "HEAD": ("Format", "StatementId", "HolderId", "HolderName", "IPI", "ISNI", "Period", "CreatedDateTime"),
    "SUMM": ("Side", "HolderTracks", "AllClaimedTracks", "UnclaimedTracks", "UnattributedTracks", "CountedTracks"),
    "RECL": ("ISRC", "Title", "Artist", "Role", "Share", "TracksFoundIn", "Tracks", "CorrectsPeriod", "SongId"),
    "WRKL": ("ISWC", "Title", "Artist", "Role", "Share", "TracksFoundIn", "Tracks", "CorrectsPeriod", "SongId"),
    "FOOT": ("Lines",),
}


def document(session: Session, statement: Statement) -> dict[str, Any]:
    """The document of a statement."""
    before = service.corrected(session, statement)
    return {
        "type": TYPE,
        "schema": SCHEMA,
        "statement": {
            "id": statement.id,
            "month": statement.month,
            "closed_at": instant(statement.created_at),
        },
        "holder": {"id": statement.holder_id, **{name: getattr(statement, name) for name in ("name", "ipi", "isni")}},
        "recordings": decimal(statement.recordings),
        "works": decimal(statement.works),
        "month": totals(service.total(session, statement)),
        "lines": [_line(each, statement.month, before) for each in service.all_lines(session, statement)],
        "disclaimers": list(DISCLAIMERS),
    }


def totals(row: ClosingTotal) -> dict[str, Any]:
    """What a month adds up to: for each side, claimed + unclaimed + unattributed = tracks, exactly."""
    whole = row.tracks * 10**PLACES
    return {
        "month": row.month,
        "tracks": row.tracks,
        "attributed": decimal(row.attributed),
        "unattributed": decimal(whole - row.attributed),
        "recordings": {"claimed": decimal(row.recordings), "unclaimed": decimal(row.attributed - row.recordings)},
        "works": {"claimed": decimal(row.works), "unclaimed": decimal(row.attributed - row.works)},
    }


def as_csv(found: Mapping[str, Any]) -> bytes:
    """The lines of a document as CSV."""
    whose = {"statement_id": found["statement"]["id"], "month": found["statement"]["month"]}
    rows = [{**whose, "holder": found["holder"]["name"], **_flat(line)} for line in found["lines"]]
    return table(_COLUMNS, rows)


def as_flat_file(found: Mapping[str, Any]) -> bytes:
    """A document as tab-separated records, each named in its first cell: header, summaries, lines, footer.

    In the manner of DDEX flat files, for those who read them by program; it is no DDEX message and claims no profile.
    A line that begins with # names the cells of the records of that name.
    """
    written = [f"#{name}\t" + "\t".join(cells) for name, cells in _RECORDS.items()]
    written += ["\t".join(map(_clean, record)) for record in _records(found)]
    return ("\n".join(written) + "\n").encode()


def _line(row: StatementLine, month: str, before: Mapping[str, str]) -> dict[str, Any]:
    corrects = None if row.month == month else {"month": row.month, "statement_id": before.get(row.month)}
    return {
        "side": row.side,
        "song": {"id": row.song_id, **{name: getattr(row, name) for name in _SONG}},
        "role": row.role,
        "share": fraction(row.parts),
        "tracks": row.tracks,
        "amount": decimal(row.amount),
        "corrects": corrects,
    }


def _flat(line: Mapping[str, Any]) -> dict[str, Any]:
    song = {name: line["song"][name] for name in _SONG} | {"song_id": line["song"]["id"]}
    corrects = line["corrects"] and line["corrects"]["month"]
    return (
        song
        | {name: line[name] for name in ("side", "role", "share", "tracks")}
        | {
            "amount": Number(line["amount"]),
            "corrects": corrects,
        }
    )


def _records(found: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    statement, holder, month = found["statement"], found["holder"], found["month"]
    whose = (holder["id"], holder["name"], holder["ipi"], holder["isni"])
    form = f"{TYPE}/{SCHEMA}"
    yield "HEAD", form, statement["id"], *whose, statement["month"], statement["closed_at"]
    for side in ("recordings", "works"):
        rest = (month[side]["claimed"], month[side]["unclaimed"], month["unattributed"])
        yield "SUMM", side, *map(Number, (found[side], *rest)), month["tracks"]
    for line in found["lines"]:
        record, code = ("RECL", "isrc") if line["side"] == "recording" else ("WRKL", "iswc")
        flat = _flat(line)
        names = ("title", "artist", "role", "share", "tracks", "amount", "corrects", "song_id")
        yield record, flat[code], *(flat[name] for name in names)
    yield "FOOT", len(found["lines"])


def _clean(value: Any) -> str:
    return " ".join(cell(value).split())
