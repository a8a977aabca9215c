"""Words as they are searched: folded in Python, so that both databases find the same songs, each in its own way.

Postgres keeps them as a `tsvector` under a GIN index, each word exactly as folded here: neither a dictionary nor an
extension is needed. SQLite keeps them as text and reads through a tenant's songs.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Text, TypeDecorator, and_, cast, func, select
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Dialect
    from sqlalchemy.orm import InstrumentedAttribute, Session
    from sqlalchemy.types import TypeEngine

from app.acting import narrowed

LONGEST = 100
# Chinese characters and Japanese kana stand without spaces: each is a word. All else is runs of letters and digits.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


def plain(text: str) -> str:
    """Return a text without regard to case, accents, width and surplus space."""
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return " ".join("".join(each for each in apart if not unicodedata.combining(each)).split())


def split(*texts: str) -> list[str]:
    """Return the words of some texts as they are searched, each once, in order; a word may have LONGEST characters."""
    return list(dict.fromkeys(word[:LONGEST] for text in texts for word in _WORD.findall(plain(text))))


class Words(TypeDecorator[list[str]]):
    """A set of words to search in; only ever written."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """A tsvector on Postgres, else text."""
        return dialect.type_descriptor(TSVECTOR() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Iterable[str] | None, dialect: Dialect) -> str | None:
        """Lexemes in quotes, or words with a space before each."""
        if value is None:
            return None
        return (
            " ".join(f"'{word}'" for word in value)
            if dialect.name == "postgresql"
            else "".join(f" {word}" for word in value)
        )

    def process_result_value(self, value: str | None, _: Dialect) -> list[str] | None:
        """The words, in no particular order."""
        return None if value is None else [word.partition(":")[0].strip("'") for word in value.split()]


def holding(session: Session, column: InstrumentedAttribute[Any], wanted: list[str]) -> ColumnElement[bool]:
    """Return the condition that each of the wanted words begins a word of the column."""
    if session.get_bind().dialect.name == "postgresql":
        return column.op("@@", is_comparison=True)(_query(wanted))
    return and_(*(cast(column, Text).contains(f" {word}", autoescape=True) for word in wanted))


def first_holding(
    session: Session, row: type[Any], wanted: list[str], after: str | None, at_most: int
) -> ColumnElement[bool]:
    """Return the condition that a song or a holder is one of the tenant's first, after an id, with words that begin so.

    For a list in order of ids that nothing else narrows. Where row-level security keeps `holding` from asking its
    index, a function of the database asks instead (migration 0014).
    """
    if not narrowed(session):
        return holding(session, row.words, wanted)
    found = func.rootnote_holding(row.__tablename__, _query(wanted), after or "", at_most).column_valued("found")
    among: ColumnElement[bool] = row.id.in_(select(found))
    return among


def _query(wanted: list[str]) -> ColumnElement[Any]:
    return cast(" & ".join(f"'{word}':*" for word in wanted), TSQUERY)
