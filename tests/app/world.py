"""What the HTTP tests are about: a registered model with its songs, and attributions that have ended."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event, func, select

from app.attributions import lease
from app.attributions.outcome import Check, ErrorInfo, Interval, Outcome, OutcomeRow, Provenance, Worth
from app.db import Base, Database, reading, transaction
from app.models import DEFAULT_TENANT, Attribution, Influence, Status, Verdict, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

SHARES = (0.3, 0.2, 0.1, 0.05, 0.05)
MATCH = {"segment": 0, "song_start_s": 0.0, "track_start_s": 1.0, "seconds": 2.0, "score": 0.5}


def digest(letter: str) -> str:
    return letter * 64


def model_folder(
    parent: Path, name: str = "starter", songs: int = 5, indexed: int = 5, index: str = "b", **manifest: Any
) -> Path:
    """A model's folder as far as registering reads it; `manifest` replaces what the manifest says."""
    folder = parent / name
    (folder / "index").mkdir(parents=True, exist_ok=True)
    says = {
        "format": 2,
        "model_digest": digest("a"),
        "index_digest": digest(index),
        "catalogue_digest": digest("c"),
        "segment_seconds": 10.0,
        "sampling_rate": 16_000,
        "shards": ["rows-0.safetensors"],
        "files": {"rows-0.safetensors": digest("9")},
        "songs": [{"key": f"song-{number}", "segments": number + 1} for number in range(min(songs, indexed))],
    }
    (folder / "index" / "manifest.json").write_text(json.dumps(says | manifest))
    with (folder / "songs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "title", "artist", "licence", "package", "duration_s", "isrc"])
        for number in range(songs):
            writer.writerow([f"song-{number}", f"Title {number}", f"Artist {number % 2}", "CC0", "some-data", 90, ""])
    return folder


def complete(database: Database, settings: Any, ident: str, shares: Sequence[float] = SHARES) -> None:
    """Do a worker's part: claim, then hand in a ranking of the first songs with these shares."""
    with transaction(database) as session:
        held = lease.take(session, attribution_id=ident, worker_id=new_id(), settings=settings)
    assert held is not None
    rows = [
        OutcomeRow(
            f"song-{place}",
            10.0 - place,
            share,
            99.0 / (place + 1),
            Check(0.01, 0.02) if place == 0 else None,
            [MATCH],
            Interval(9.0 - place, 11.0 - place, share / 2, 2 * share),
            effect=share / 10,
        )
        for place, share in enumerate(shares)
    ]
    outcome = Outcome(
        influences=tuple(rows),
        unattributed=1 - sum(shares),
        model_digest=held.model_digest,
        index_digest=held.index_digest,
        reliability={"verdict": "good"},
        timings={"encoding": 0.5},
        details={"measure": ["squared_output", "squared_noise"], "draws": 64, "seed": 0},
        worth=Worth(Provenance(Verdict.OWN, 0.98), 0.1, calibrated=True),
    )
    with transaction(database) as session:
        assert lease.complete(session, claim=held, outcome=outcome)


def fail(database: Database, settings: Any, ident: str, error: ErrorInfo) -> None:
    """Do a worker's part, badly."""
    with transaction(database) as session:
        held = lease.take(session, attribution_id=ident, worker_id=new_id(), settings=settings)
        assert held is not None
        assert lease.fail(session, claim=held, error=error, retry=False, settings=settings)


def add_found(
    database: Database, model_id: str, song_id: str, moments: Sequence[datetime], *, counted: bool = True
) -> list[str]:
    """Ended attributions of different tracks in which a song was found, one at each instant; returns their ids."""
    idents = [new_id() for _ in moments]
    with transaction(database) as session:
        for ident, moment in zip(idents, moments, strict=True):
            ended = {"created_at": moment, "finished_at": moment, "expires_at": moment, "status": Status.SUCCEEDED}
            audio = {"audio_key": "k", "audio_sha256": digest("d"), "audio_bytes": 1}
            owner = {"tenant_id": DEFAULT_TENANT, "model_id": model_id, "counted": counted}
            session.add(Attribution(id=ident, method="index", top_k=10, **ended, **audio, **owner))
        session.flush()
        for place, (ident, moment) in enumerate(zip(idents, moments, strict=True), 1):
            found = {"rank": place, "score": 1.0, "share": 0.25, "percentile": 50.0, "created_at": moment}
            owner = {"tenant_id": DEFAULT_TENANT, "model_id": model_id, "counted": counted}
            session.add(Influence(attribution_id=ident, song_id=song_id, **found, **owner))
    return idents


def rows(database: Database, table: type[Base]) -> int:
    """How many rows a table holds."""
    with reading(database) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def objects(settings: Any) -> list[Path]:
    """The files in the storage."""
    folder = Path(settings.storage_url.removeprefix("file://"))
    return [path for path in folder.rglob("*") if path.is_file()]


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements that are sent to any database inside the block, but those that say for whom the others are."""
    with _sent() as sent:
        asked: list[str] = []
        yield asked
        asked += [each for each in sent if "set_config" not in each]


@contextmanager
def narrowings() -> Iterator[list[str]]:
    """The statements inside the block that say, on Postgres, for whom a transaction runs."""
    with _sent() as sent:
        said: list[str] = []
        yield said
        said += [each for each in sent if "set_config" in each]


@contextmanager
def _sent() -> Iterator[list[str]]:
    sent: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)
