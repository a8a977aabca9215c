"""Closed months and the statements of rights-holders."""

from collections.abc import Iterator

from app.client.connection import Connection, read
from app.statements.schemas import (
    ClosedMonth,
    ClosedMonthPage,
    Statement,
    StatementLine,
    StatementLinePage,
    StatementPage,
)


class Statements(Connection):
    """The calls about statements."""

    def close_month(self, month: str) -> ClosedMonth:
        """Close a month (YYYY-MM); one that is closed stays as it is."""
        return read(ClosedMonth, self.call("POST", f"/v1/statements/{month}/close"))

    def closed_months(self) -> Iterator[ClosedMonth]:
        """Yield closed months, the newest first."""
        yield from self.items(ClosedMonthPage, "/v1/closings")

    def statements(self, **wanted: str) -> Iterator[Statement]:
        """Yield statements, the newest first; `wanted` are the list's own filters: month, holder."""
        yield from self.items(StatementPage, "/v1/statements", wanted)

    def statement(self, statement_id: str) -> Statement:
        """Return one statement."""
        return read(Statement, self.call("GET", f"/v1/statements/{statement_id}"))

    def statement_lines(self, statement_id: str) -> Iterator[StatementLine]:
        """Yield the lines of a statement, in its order."""
        yield from self.items(StatementLinePage, f"/v1/statements/{statement_id}/lines")

    def statement_file(self, statement_id: str, form: str = "json") -> bytes:
        """Return a statement as a signed document (`json`), a table (`csv`) or a flat file (`tsv`)."""
        ending = "" if form == "json" else f".{form}"
        return self.call("GET", f"/v1/statements/{statement_id}/report{ending}").content
