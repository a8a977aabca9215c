"""A copy of the embedded service that can be put back: the database as of one instant, and the objects that it names.

The broker is not part of it: it carries ids and nothing else, and the sweeper rings again for whatever waits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from app.db import utcnow
from app.errors import Conflict, InvalidRequest
from app.storage import CHUNK_BYTES, LOCAL
from app.up import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.config import Settings
    from app.supervisor import Say

DATABASE, OBJECTS, MANIFEST = "rootnote.db", "objects", "backup.json"


class NotEmbedded(InvalidRequest):
    """Database or storage are servers of their own, which have their own tools."""

    type, title = "not-embedded", "Only the embedded set-up is copied by this command"


class BackupDamaged(Conflict):
    """What lies in the folder is not what was put there."""

    type, title = "backup-damaged", "The backup is damaged"


@dataclass(frozen=True)
class Manifest:
    """What a backup holds: digest of the database, rows by table, objects and their bytes."""

    version: str
    made_at: str
    revision: str
    database_sha256: str
    rows: dict[str, int]
    objects: int
    bytes: int


def backup(settings: Settings, folder: Path, say: Say) -> Manifest:
    """Copy the service into an empty folder while it runs; the manifest comes last, so that half a copy has none.

    Raises NotEmbedded, and Conflict where the folder holds something.
    """
    source, objects = _places(settings)
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
        closing(sqlite3.connect(folder / DATABASE)) as new,
    ):
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
        rows, revision = _counted(new)
    # An object is stored before the row that names it, so every one of these rows finds its own.
    copied = [_copied(path, folder / OBJECTS / path.relative_to(objects)) for path in _files(objects)]
    made = utcnow().isoformat()
    digest = _digest(folder / DATABASE)
    manifest = Manifest(version("rootnote"), made, revision, digest, rows, len(copied), sum(copied))
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    say(f"{sum(rows.values())} rows and {len(copied)} objects ({sum(copied)} bytes) are in {folder}")
    return manifest


def restore(settings: Settings, folder: Path, say: Say) -> Manifest:
    """Put a backup into a data folder that holds no database yet, every digest checked.

    Raises NotEmbedded, BackupDamaged, AlreadyRunning, and Conflict where there is a database.
    """
    target, objects = _places(settings)
    manifest = _read(folder)
    with locked(settings.data_dir):
        if target.exists():
            raise Conflict(f"{target} exists; restore into an empty data folder (ROOTNOTE_DATA_DIR)")
        for path in _files(folder / OBJECTS):
            if _digest(path) != path.name:
                raise BackupDamaged(f"{path} does not have the digest that it is named by")
            _copied(path, objects / path.relative_to(folder / OBJECTS))
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".part")
        shutil.copyfile(folder / DATABASE, draft)
        draft.replace(target)
    say(f"{sum(manifest.rows.values())} rows and {manifest.objects} objects are in {settings.data_dir}")
    return manifest


def _places(settings: Settings) -> tuple[Path, Path]:
    """The database's file and the folder of objects."""
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database or not settings.storage_url.startswith(LOCAL):
        raise NotEmbedded("docs/runbook.md says how Postgres and other storage are copied")
    return Path(url.database), Path(settings.storage_url.removeprefix(LOCAL))


def _read(folder: Path) -> Manifest:
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BackupDamaged(f"{folder} holds no whole backup") from error
    kept = list(_files(folder / OBJECTS))
    if _digest(folder / DATABASE) != manifest.database_sha256 or len(kept) != manifest.objects:
        raise BackupDamaged(f"{folder} does not hold what {MANIFEST} says")
    return manifest


def _counted(connection: sqlite3.Connection) -> tuple[dict[str, int], str]:
    """How many rows each table has, and the newest migration."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {}
    for name in sorted(names):
        (rows[name],) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608  its own names
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return rows, revision


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _copied(source: Path, target: Path) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target.stat().st_size


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()
