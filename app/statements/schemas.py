"""What the routes of statements answer beside the documents themselves."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.attributions.examples import ID
from app.models import Side
from app.models import Statement as Row
from app.models import StatementLine as LineRow
from app.statements.amounts import decimal, fraction
from app.statements.closing import Closed
from app.statements.documents import totals

Amount = Annotated[str, Field(pattern=r"^-?[0-9]+\.[0-9]{12}$")]
"""Tracks, exactly: 1.000000000000 is all of one generated track."""
Month = Annotated[str, Field(description="YYYY-MM, in UTC.")]

_TOTAL: dict[str, Any] = {
    "month": "2026-11",
    "tracks": 1200,
    "attributed": "400.500000000000",
    "unattributed": "799.500000000000",
    "recordings": {"claimed": "400.000000000000", "unclaimed": "0.500000000000"},
    "works": {"claimed": "100.250000000000", "unclaimed": "300.250000000000"},
}
_STATEMENT: dict[str, Any] = {
    "id": ID,
    "month": "2026-11",
    "holder": {"id": ID, "name": "Ada Lovelace", "ipi": "00014107338", "isni": None},
    "recordings": "12.500000000000",
    "works": "6.250000000000",
    "lines": 3,
    "closed_at": "2026-12-01T03:04:05Z",
}
_LINE: dict[str, Any] = {
    "side": "recording",
    "song": {"id": ID, "title": "Night Drive", "artist": "The Examples", "isrc": "USSKG1912345", "iswc": None},
    "role": "label",
    "share": "0.500000000",
    "tracks": 25,
    "amount": "12.500000000000",
    "corrects": None,
}


class Claims(BaseModel):
    """What of the attributed tracks belongs to holders of rights, and what to nobody that the catalogue names."""

    claimed: Amount
    unclaimed: Amount


class Total(BaseModel):
    """What a closing adds up to for one month: on each side, claimed + unclaimed + unattributed = tracks, exactly."""

    month: Month
    tracks: int
    attributed: Amount
    unattributed: Amount
    recordings: Claims
    works: Claims


class ClosedMonth(BaseModel):
    """A month that is closed: its own totals first, then what it corrects in earlier ones."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"month": "2026-11", "closed_at": "2026-12-01T03:04:05Z", "statements": 40, "totals": [_TOTAL]}
        }
    )

    month: Month
    closed_at: datetime
    statements: int
    totals: list[Total]

    @classmethod
    def of(cls, closed: Closed) -> Self:
        """Return a closed month as the interface shows it."""
        return cls(
            month=closed.closing.month,
            closed_at=closed.closing.closed_at,
            statements=closed.statements,
            totals=[Total.model_validate(totals(row)) for row in closed.totals],
        )


class ClosedMonthPage(BaseModel):
    """Closed months, the newest first."""

    items: list[ClosedMonth]
    next_cursor: str | None


class StatedHolder(BaseModel):
    """A rights-holder as it was when the month was closed."""

    id: str
    name: str
    ipi: str | None
    isni: str | None


class Statement(BaseModel):
    """What one holder has in one month; recordings and works are two views of the same tracks."""

    model_config = ConfigDict(json_schema_extra={"example": _STATEMENT})

    id: str
    month: Month
    holder: StatedHolder
    recordings: Amount
    works: Amount
    lines: int
    closed_at: datetime

    @classmethod
    def of(cls, row: Row) -> Self:
        """Return a statement as the interface shows it."""
        return cls(
            id=row.id,
            month=row.month,
            holder=StatedHolder(id=row.holder_id, name=row.name, ipi=row.ipi, isni=row.isni),
            recordings=decimal(row.recordings),
            works=decimal(row.works),
            lines=row.lines,
            closed_at=row.created_at,
        )


class StatementPage(BaseModel):
    """Statements, the newest first."""

    items: list[Statement]
    next_cursor: str | None


class StatedSong(BaseModel):
    """A song as it was when the month was closed."""

    id: str
    title: str
    artist: str
    isrc: str | None
    iswc: str | None


class Correction(BaseModel):
    """What a line corrects: the holder's statement of that month, null where it had none."""

    month: Month
    statement_id: str | None


class StatementLine(BaseModel):
    """A holder's amount from one song in one role."""

    model_config = ConfigDict(json_schema_extra={"example": _LINE})

    side: Side
    song: StatedSong
    role: str
    share: str = Field(description="Of the right, exactly, at the time of closing.")
    tracks: int = Field(description="In which the song was found; in a correction, how many more or fewer.")
    amount: Amount
    corrects: Correction | None

    @classmethod
    def of(cls, row: LineRow, month: str, before: dict[str, str]) -> Self:
        """Return a line of a month's statement; `before` are the statements of the months that it corrects."""
        corrects = None if row.month == month else Correction(month=row.month, statement_id=before.get(row.month))
        return cls(
            side=Side(row.side),
            song=StatedSong(id=row.song_id, title=row.title, artist=row.artist, isrc=row.isrc, iswc=row.iswc),
            role=row.role,
            share=fraction(row.parts),
            tracks=row.tracks,
            amount=decimal(row.amount),
            corrects=corrects,
        )


class StatementLinePage(BaseModel):
    """A part of a statement's lines."""

    statement: Statement
    items: list[StatementLine]
    next_cursor: str | None
