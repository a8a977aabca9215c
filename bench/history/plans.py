"""How Postgres answers the service's reading statements, in its own words: EXPLAIN (ANALYZE) of what was sent."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from app.attributions import service as attributions
from app.catalogue import history, service
from app.cursor import encode
from app.db import engines, reading
from app.models import Status
from bench.history import fill
from bench.history.sizes import TENANT, Sizes, moment, song_id, track_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from psycopg import Connection
    from sqlalchemy.orm import Session

    from app.config import Settings

_HEAD = """# The database at size

How Postgres finds what the service's lists and histories ask for, with {songs:,} songs, {tracks:,} attributions and
{influences:,} influences, one song of them in {hot:,} tracks. This page is written by `python -m bench.history --plans
docs/database.md`; times are those of one run on a warm database and say less than
[history.json](../bench/results/history.json), which has the times over HTTP, the machine and the commit.

- Pages are read by keyset: a page begins at its place in an index, however deep it lies, and reads one row more than it
  shows. The place is compared as a pair, `(created_at, id) < (…, …)`; said with `OR`, the
  index would be read from its end.
- A song's history is one statement. Only an empty one needs a second, to tell a song without influences from no song.
- The index of the history also holds share, rank and whether the track counts: the series is read from it alone.
- Words are searched in a `tsvector` under a GIN index. The service folds them (case, accents, width), not a
  dictionary, and each word of a query is the beginning of a word. No extension is needed. On SQLite, where catalogues
  are small, the same words are looked for in a text column, in the order of the list: a search reads a tenant's songs
  until its page is full.
- The rows of one song's history lie apart, each beside the rows of its own track. Read for the first time from a disk,
  a page costs some forty random reads; the figures are those of a cache that holds what is asked for.
- Artists are found by a folded copy of their name, under a plain index.
"""


def sizes(connection: Connection[Any]) -> dict[str, int]:
    """Return the bytes of each large table without its indexes, and of each index."""
    query = (
        "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'i') AND pg_relation_size(oid) > 10000000 ORDER BY 2 DESC"
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def write(settings: Settings, sizes: Sizes, page: Path) -> None:
    """Write the page of plans."""
    parts = [_HEAD.format(songs=sizes.songs, tracks=sizes.tracks, influences=sizes.influences, hot=sizes.hot)]
    with closing(engines(settings)) as db:
        for title, ask in _questions(sizes).items():
            with reading(db) as session, _explained(session) as explained:
                ask(session)
            parts.append(f"## {title}\n\n```\n{explained[0]}\n```\n")
    page.write_text("\n".join(parts))


def _questions(sizes: Sizes) -> dict[str, Callable[[Session], object]]:
    common, rare = fill.vocabulary(sizes)[0], fill.vocabulary(sizes)[-1]
    middle = sizes.hot // 2 * sizes.every
    deep = encode(f"history:{song_id(0)}", moment(middle), track_id(middle))
    late = encode("attributions", moment(middle), track_id(middle))
    wanted = history.Wanted(song_id(0))

    def songs(**by: str) -> Callable[[Session], object]:
        return lambda session: service.page(session, tenant_id=TENANT, wanted=service.SongFilter(**by))

    def tracks(cursor: str | None = None, **by: Any) -> Callable[[Session], object]:
        listing = attributions.Listing(**by)
        return lambda session: attributions.page(session, tenant_id=TENANT, listing=listing, cursor=cursor)

    return {
        "A page in the middle of a long history": lambda session: history.page(
            session, tenant_id=TENANT, wanted=wanted, cursor=deep
        ),
        "A long history by day": lambda session: history.series(session, tenant_id=TENANT, wanted=wanted, bucket="day"),
        "Songs by a frequent word": songs(q=common),
        "Songs by a rare word": songs(q=rare),
        "Songs by artist": songs(artist=f"{common} {rare}"),
        "Attributions, a page in the middle": tracks(late),
        "Attributions that failed, of which there are none": tracks(status=Status.FAILED),
        "The ranking of a track": lambda session: attributions.ranking(
            session, tenant_id=TENANT, attribution_id=track_id(middle)
        ),
    }


@contextmanager
def _explained(session: Session) -> Iterator[list[str]]:
    """The plan of the last of the statements sent within the block that reads a large table, filled at its end."""
    sent: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        sent.append((statement, parameters))

    connection, plans = session.connection(), list[str]()
    event.listen(connection, "before_cursor_execute", note)
    yield plans
    event.remove(connection, "before_cursor_execute", note)
    statement, parameters = next(each for each in reversed(sent) if "rights" not in each[0].partition("FROM")[2])
    rows = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters)
    plans.append("\n".join(_plain(row[0]) for row in rows))


def _plain(line: str) -> str:
    return re.sub(r"\)::text|\((?=\w+\)::text)", "", line)[:150]
