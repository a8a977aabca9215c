"""Fill a migrated Postgres with a large catalogue and its influences, by COPY, in blocks: a run cut off goes on.

Foreign keys are not checked while rows come in (they are right by construction) and the indexes of the large table are
built at the end, as one restores a dump.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.history.sizes import LABELS, MODELS, TENANT, WRITERS, Sizes, holder_id, model_id, moment, song_id, track_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import Connection

    Rows = Callable[[Sizes, int, int], Iterator[str]]

BLOCK = 5_000
_WORDS = 8_000
_SYLLABLES = tuple(a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "or"))
_PROGRESS = "CREATE TABLE IF NOT EXISTS bench_blocks (kind text, number int, PRIMARY KEY (kind, number))"
_COLUMNS = {
    "songs": (
        "id, tenant_id, key, title, artist, artist_plain, words, isrc, duration_s, licence, training_policy,"
        " created_at, updated_at"
    ),
    "holders": "id, tenant_id, name, name_plain, words, created_at",
    "rights": "id, tenant_id, song_id, holder_id, party, role, share",
    "attributions": (
        "id, tenant_id, model_id, status, progress, method, external_id, top_k, filename, audio_key, audio_sha256,"
        " audio_bytes, audio_facts, attempts, rings, unattributed, reliability, timings, details, created_at,"
        " started_at, finished_at, expires_at, counts_as, counted"
    ),
    "influences": (
        "attribution_id, song_id, tenant_id, model_id, rank, score, score_low, score_high, effect, share, share_low,"
        " share_high, percentile, check_mirrored, check_forward, matches, created_at, counted"
    ),
}


def fill(connection: Connection[Any], sizes: Sizes, say: Callable[[str], None]) -> float:
    """Make all rows that are missing; returns the seconds it took, 0 where none was."""
    began = time.perf_counter()
    connection.execute(_PROGRESS)
    if connection.execute("SELECT FROM bench_blocks WHERE kind = 'all'").fetchone() is not None:
        return 0.0
    connection.execute("SET session_replication_role = replica")  # no foreign keys checked, row by row
    connection.execute("SET synchronous_commit = off")
    connection.commit()
    _models(connection)
    history = _without_history_index(connection)
    plan: tuple[tuple[str, int, Rows], ...] = (
        ("songs", sizes.songs, _songs),
        ("holders", WRITERS + LABELS, _holders),
        ("rights", sizes.songs, _rights),
        ("attributions", sizes.tracks, _attributions),
        ("influences", sizes.tracks, _influences),
    )
    for table, count, rows in plan:
        _blocks(connection, sizes, (table, count, rows))
        say(f"{table}: filled after {time.perf_counter() - began:.0f} s")
    connection.execute(history)
    connection.commit()
    connection.autocommit = True
    connection.execute("INSERT INTO bench_blocks VALUES ('all', 0)")
    connection.execute("VACUUM (ANALYZE)")
    say(f"indexed and analysed after {time.perf_counter() - began:.0f} s")
    return time.perf_counter() - began


def warm(connection: Connection[Any]) -> int:
    """Read the hot song's whole history once, so that it lies in Postgres' own cache; returns its rows."""
    connection.execute("SET enable_seqscan = off")  # a large sequential scan would go past the cache
    connection.execute("SET enable_hashjoin = off")
    connection.execute("SET enable_mergejoin = off")
    row = connection.execute(
        "SELECT count(i.matches), count(a.filename) FROM influences i JOIN attributions a ON a.id = i.attribution_id"
        " WHERE i.tenant_id = %s AND i.song_id = %s",
        (TENANT, song_id(0)),
    ).fetchone()
    return int(row[0]) if row else 0


@lru_cache
def vocabulary(sizes: Sizes) -> list[str]:
    """Return the words that titles and artists are made of; the first are the most frequent."""
    draw = np.random.default_rng(sizes.seed)
    made: dict[str, None] = {}
    while len(made) < _WORDS:
        made["".join(draw.choice(_SYLLABLES, int(draw.integers(2, 5))))] = None
    return list(made)


def _without_history_index(connection: Connection[Any]) -> str:
    """Drop the index that COPY would slow down most; returns the statement that makes it again."""
    name = "ix_influences_history"
    found = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = %s", (name,)).fetchone()
    if found is not None:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_index (definition text)")
        connection.execute("DELETE FROM bench_index")
        connection.execute("INSERT INTO bench_index VALUES (%s)", found)
        connection.execute(f"DROP INDEX {name}")
        connection.commit()
    kept = connection.execute("SELECT definition FROM bench_index").fetchone()
    assert kept is not None
    return str(kept[0]).replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS", 1)


def _blocks(connection: Connection[Any], sizes: Sizes, work: tuple[str, int, Rows]) -> None:
    table, count, rows = work
    done = {row[0] for row in connection.execute("SELECT number FROM bench_blocks WHERE kind = %s", (table,))}
    for number in range(-(-count // BLOCK)):
        if number in done:
            continue
        start, stop = number * BLOCK, min((number + 1) * BLOCK, count)
        with connection.cursor().copy(f"COPY {table} ({_COLUMNS[table]}) FROM STDIN") as copy:
            copy.write("".join(rows(sizes, start, stop)))
        connection.execute("INSERT INTO bench_blocks VALUES (%s, %s)", (table, number))
        connection.commit()


def _models(connection: Connection[Any]) -> None:
    for number in range(MODELS):
        connection.execute(
            "INSERT INTO models (id, tenant_id, name, folder, model_digest, index_digest, segment_seconds, segments,"
            " songs, details, created_at) VALUES (%s, %s, %s, '', %s, %s, 10, 0, 0, '{}', %s) ON CONFLICT DO NOTHING",
            (model_id(number), TENANT, f"model-{number}", "a" * 64, f"{number:064x}", moment(0)),
        )
    connection.commit()


def _songs(sizes: Sizes, start: int, stop: int) -> Iterator[str]:
    words, draw = vocabulary(sizes), np.random.default_rng((sizes.seed, 1, start))
    # Squared, so that some words are in very many titles and most in few.
    drawn = (draw.random((stop - start, 6)) ** 2.5 * len(words)).astype(int).tolist()
    lengths = draw.integers(1, 5, stop - start).tolist()
    for number, each, length in zip(range(start, stop), drawn, lengths, strict=True):
        title = " ".join(words[place] for place in each[:length])
        artist = f"{words[each[4] // 8]} {words[each[5]]}"
        name, at = f"s{number:07d}", moment(0)
        yield (
            f"{song_id(number)}\t{TENANT}\t{name}\t{title.title()}\t{artist.title()}\t{artist}\t{title} {artist} {name}"
            f"\tUSX{number:09d}\t{120 + number % 240}\tCC-BY-4.0\tallow\t{at}\t{at}\n"
        )


def _holders(_: Sizes, start: int, stop: int) -> Iterator[str]:
    for number in range(start, stop):
        name = f"Party {number}" if number < WRITERS else f"Label {number - WRITERS}"
        yield f"{holder_id(number)}\t{TENANT}\t{name}\t{name.lower()}\t{name.lower()}\t{moment(0)}\n"


def _rights(_: Sizes, start: int, stop: int) -> Iterator[str]:
    for number in range(start, stop):
        song = song_id(number)
        writer, label = number % WRITERS, number % LABELS
        both = f"{TENANT}\t{song}"
        yield f"{song[:2]}a{song[3:]}\t{both}\t{holder_id(writer)}\tParty {writer}\tcomposer\t0.5\n"
        yield f"{song[:2]}b{song[3:]}\t{both}\t{holder_id(WRITERS + label)}\tLabel {label}\tlabel\t1.0\n"


def _attributions(_: Sizes, start: int, stop: int) -> Iterator[str]:
    facts = json.dumps({"format": "WAV", "samplerate": 44_100, "channels": 2, "duration_s": 30.0})
    seconds = json.dumps({"decoding": 0.1, "encoding": 0.4, "unlearning": 3.2, "scoring": 0.2, "ranking": 0.1})
    details = json.dumps({"measure": ["squared_output", "squared_noise"], "draws": 64, "seed": 0})
    for number in range(start, stop):
        at = moment(number)
        yield (
            f"{track_id(number)}\t{TENANT}\t{model_id(number % MODELS)}\tsucceeded\t1\tindex\trender-{number}\t10"
            f"\ttrack-{number}.wav\tdefault/{number:064x}\t{number:064x}\t5292044\t{facts}\t1\t0\t0.4"
            f'\t{{"draws": 0.93, "verdict": "good"}}\t{seconds}\t{details}\t{at}\t{at}\t{at}\t{at}'
            f"\t{number:064x}\ttrue\n"
        )


def _influences(sizes: Sizes, start: int, stop: int) -> Iterator[str]:
    draw = np.random.default_rng((sizes.seed, 2, start))
    songs, scores = _drawn(draw, sizes, stop - start), draw.random((stop - start, sizes.songs_per_track)).tolist()
    for number, row, parts in zip(range(start, stop), songs, scores, strict=True):
        if number % sizes.every == 0:
            row[number // sizes.every % sizes.songs_per_track] = 0
        fixed, at = f"{TENANT}\t{model_id(number % MODELS)}", moment(number)
        for rank, (song, part) in enumerate(zip(row, parts, strict=True), 1):
            share = part / 10
            yield (
                f"{track_id(number)}\t{song_id(song)}\t{fixed}\t{rank}\t{part + 10 - rank}\t{part + 9 - rank}"
                f"\t{part + 11 - rank}\t{share / 3}\t{share}\t{share / 2}\t{2 * share}\t{99 * part}"
                f"\t{part if rank < 4 else _NULL}\t{share if rank < 4 else _NULL}\t{_matches(rank, part)}\t{at}\ttrue\n"
            )


_NULL = "\\N"


def _matches(rank: int, part: float) -> str:
    """As many matching segments as a worker keeps of a song of that rank."""
    one = '{{"segment": {}, "song_start_s": {}.0, "track_start_s": {}.0, "seconds": 10.0, "score": {}}}'
    found = (one.format(each, each * 10, each * 5, part / (each + 1)) for each in range(3 if rank < 4 else 1))
    return f"[{', '.join(found)}]"


def _drawn(draw: np.random.Generator, sizes: Sizes, tracks: int) -> list[list[int]]:
    """Songs of each track, each once, never the hot one; a few are far more frequent than others."""
    span = sizes.songs - 1
    songs = 1 + (draw.random((tracks, sizes.songs_per_track)) ** 1.5 * span).astype(np.int64)
    for row in songs:
        while len(np.unique(row)) < len(row):
            row[:] = 1 + draw.integers(0, span, len(row))
    listed: list[list[int]] = songs.tolist()
    return listed
