"""A catalogue as CSV: one song a line, read whole, checked line by line, stored by key.

Columns: key, title, artist, isrc, iswc, upc, duration_s, licence, training_policy, policy_from, policy_to, rights; in
any order, separated by comma, semicolon or tab. A line without a key goes by its ISRC. `rights` is
`party|role|share|ipi|isni; …`, of which the last two may be left out. An empty cell says nothing: it never clears what
is stored.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from app.catalogue import identifiers, policies
from app.catalogue.holders import Directory, Party
from app.catalogue.schemas import ImportReport, RowError, SongFacts
from app.catalogue.service import assign, build, differences, stated
from app.errors import Conflict, HolderConflict, InvalidRequest, plain
from app.models import Song

COLUMNS = tuple(SongFacts.model_fields)
MAX_ROWS = 200_000
_RIGHT_CELLS = ("party", "role", "share", "ipi", "isni")
_BATCH = 500
_SURPLUS = ""


@dataclass(frozen=True)
class Line:
    """One sound line: where it ends in the file, the song's key, and the facts that its cells state."""

    number: int
    key: str
    facts: SongFacts


@dataclass(frozen=True)
class Sheet:
    """A file as read: sound lines, what is wrong with the others, what is doubtful, and columns that nobody knows."""

    lines: tuple[Line, ...]
    errors: tuple[RowError, ...]
    warnings: tuple[RowError, ...]
    ignored_columns: tuple[str, ...]
    header: tuple[str, ...]

    @property
    def rows(self) -> int:
        """The number of lines that state a song, sound or not."""
        return len(self.lines) + len({error.line for error in self.errors})


def parse(data: bytes) -> Sheet:
    """Read a CSV file; raises InvalidRequest where it is not one, or lacks the columns title and artist."""
    reader = _reader(data)
    lines: dict[str, Line] = {}
    errors: list[RowError] = []
    for number, cells in _rows(reader):
        line = _line(number, cells)
        if isinstance(line, list):
            errors += line
        elif line.key in lines:
            message = f"line {lines[line.key].number} names the same song"
            errors.append(RowError(line=number, field="key", message=message))
        else:
            lines[line.key] = line
    ignored = tuple(name for name in reader.fieldnames or [] if name not in COLUMNS)
    header = list(reader.fieldnames or [])
    wrong, doubtful = ([_placed(each, header) for each in found] for found in (errors, _doubts(lines.values())))
    return Sheet(tuple(lines.values()), tuple(wrong), tuple(doubtful), ignored, tuple(header))


def store(session: Session, *, tenant_id: str, sheet: Sheet, dry_run: bool = False) -> ImportReport:
    """Create and change the songs of a file's sound lines, or only say what would be done.

    Raises Conflict where someone else creates one of them at the same time.
    """
    counts: Counter[str] = Counter()
    directory, errors = Directory(session, tenant_id), list(sheet.errors)
    for start in range(0, len(sheet.lines), _BATCH):
        sound = _admit(directory, sheet.lines[start : start + _BATCH], errors, sheet.header)
        counts.update(_batch(session, directory, sound, dry_run=dry_run))
    return ImportReport(
        dry_run=dry_run,
        rows=sheet.rows,
        errors=sorted(errors, key=lambda error: error.line),
        warnings=list(sheet.warnings),
        ignored_columns=list(sheet.ignored_columns),
        **{outcome: counts[outcome] for outcome in ("created", "updated", "unchanged")},
    )


def _batch(session: Session, directory: Directory, lines: Sequence[Line], *, dry_run: bool) -> Iterator[str]:
    """Store some lines whose parties are admitted; yields what became of each."""
    known = by_key(session, tenant_id=directory.tenant_id, keys=[line.key for line in lines])
    told = policies.latest(session, [song.id for song in known.values()]) if _dated(lines) else {}
    if not dry_run:
        directory.save()
    for line in lines:
        song = known.get(line.key)
        changes = None if song is None else differences(song, stated(line.facts), told.get(song.id))
        if not dry_run:
            _store(session, directory, line, song, changes)
        yield _outcome(changes)
    _flush(session)


def by_key(session: Session, *, tenant_id: str, keys: Sequence[str]) -> dict[str, Song]:
    """Return those of the named songs that exist, with their rights."""
    query = select(Song).where(Song.tenant_id == tenant_id, Song.key.in_(keys)).options(selectinload(Song.rights))
    return {song.key: song for song in session.scalars(query)}


def _admit(directory: Directory, lines: Sequence[Line], errors: list[RowError], header: Sequence[str]) -> list[Line]:
    """Return the lines whose parties are no contradiction to known rights-holders; the others become errors."""
    directory.load(Party.of(right) for line in lines for right in line.facts.rights)
    sound = []
    for line in lines:
        try:
            directory.admit(Party.of(right) for right in line.facts.rights)
        except HolderConflict as error:
            errors.append(_placed(RowError(line=line.number, field="rights", message=error.detail), header))
        else:
            sound.append(line)
    return sound


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict("another change to the same songs came between; import again") from error


def _reader(data: bytes) -> "csv.DictReader[str]":
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest("the file is not UTF-8 text") from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey=_SURPLUS, delimiter=max(",;\t", key=first.count))
    header = [name.strip().lower() for name in _header(reader)]
    missing = [name for name in ("title", "artist") if name not in header]
    if missing or len(set(header)) != len(header):
        raise InvalidRequest(f"the first line names the columns, each once; missing: {', '.join(missing) or 'none'}")
    reader.fieldnames = header
    return reader


def _header(reader: "csv.DictReader[str]") -> Sequence[str]:
    try:
        return reader.fieldnames or []
    except csv.Error as error:
        raise InvalidRequest(f"line 1: {error}") from error


def _rows(reader: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        for count, cells in enumerate(reader, 1):
            if count > MAX_ROWS:
                raise InvalidRequest(f"a file may hold {MAX_ROWS} songs; split it")
            yield reader.line_num, cells
    except csv.Error as error:
        raise InvalidRequest(f"line {reader.line_num}: {error}") from error


def _line(number: int, cells: dict[str, Any]) -> Line | list[RowError]:
    if _SURPLUS in cells:
        return [RowError(line=number, field=None, message="more cells than columns")]
    given: dict[str, Any] = {name: cells[name].strip() for name in COLUMNS if (cells.get(name) or "").strip()}
    if "rights" in given:
        given["rights"] = [_right(text) for text in given["rights"].split(";") if text.strip()]
    try:
        facts = SongFacts.model_validate(given)
    except ValidationError as error:
        return [_row_error(number, each["loc"], plain(each["msg"])) for each in error.errors()]
    key = facts.key or facts.isrc
    if key is None:
        return [RowError(line=number, field="key", message="neither a key nor an ISRC")]
    return Line(number, key, facts.model_copy(update={"key": key}))


def _right(text: str) -> dict[str, str]:
    cells = (cell.strip() for cell in text.split("|"))
    return {name: cell for name, cell in zip((*_RIGHT_CELLS, _SURPLUS), cells, strict=False) if cell}


def _row_error(number: int, location: Sequence[str | int], message: str) -> RowError:
    return RowError(line=number, field=".".join(map(str, location)) or None, message=message)


def _placed(error: RowError, header: Sequence[str]) -> RowError:
    """The same error with the number of its column, where the file has such a column."""
    name = (error.field or "").partition(".")[0]
    return error.model_copy(update={"column": header.index(name) + 1}) if name in header else error


def _doubts(lines: Iterable[Line]) -> Iterator[RowError]:
    for line in lines:
        doubt = identifiers.isrc_warning(line.facts.isrc) if line.facts.isrc else None
        if doubt:
            yield RowError(line=line.number, field="isrc", message=doubt)


def _dated(lines: Iterable[Line]) -> bool:
    return any(line.facts.model_fields_set & {"policy_from", "policy_to"} for line in lines)


def _outcome(changes: dict[str, Any] | None) -> str:
    if changes is None:
        return "created"
    return "updated" if changes else "unchanged"


def _store(
    session: Session, directory: Directory, line: Line, song: Song | None, changes: dict[str, Any] | None
) -> None:
    if song is None:
        build(session, tenant_id=directory.tenant_id, facts=line.facts, directory=directory)
    else:
        assign(session, song, changes or {}, directory)
