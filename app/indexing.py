"""The commands about indexes: have one built or grown by the builders, change one, watch."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import up as embedded
from app.access import audit
from app.builds import service
from app.builds.service import NewBuild, Standing
from app.config import Settings
from app.db import engines, reading, transaction
from app.errors import InvalidModel, Unavailable
from app.models import DEFAULT_TENANT, Making
from app.storage import Storage, key_of
from app.supervisor import Say

LOOK_SECONDS = 0.5
CHANGES = ("remove", "merge", "upgrade", "requantise")


class NotBuilt(Unavailable):
    """A build ended without an index."""

    type, title = "not-built", "The index could not be built"


@dataclass(frozen=True)
class Wanted:
    """An index for the model in `folder`, of the songs in `training`; how: wishes that differ from the default."""

    folder: Path
    training: Path
    name: str | None
    grows: bool
    how: dict[str, Any]


def begin(settings: Settings, wanted: Wanted) -> str:
    """Hand the training set to the builders and return the build's id. Raises InvalidModel, Conflict, Unavailable."""
    folder = wanted.folder.resolve()
    if not (folder / "pipeline").is_dir() or not (folder / "songs.csv").is_file():
        raise InvalidModel(f"{folder} is not the folder of a model: it needs pipeline/ and songs.csv")
    if wanted.grows is not (folder / "index" / "manifest.json").exists():
        raise InvalidModel(
            f"{folder} has {'no index to add to' if wanted.grows else 'an index: add to it, or move it'}"
        )
    with wanted.training.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    key = key_of(DEFAULT_TENANT, sha256)
    Storage.open(settings.storage_url).put(wanted.training, key)
    build = NewBuild(wanted.name or folder.name, str(folder), key, sha256, wanted.grows, wanted.how)
    who = audit.by_command(DEFAULT_TENANT, "index add" if wanted.grows else "index build")
    with closing(engines(settings)) as db, transaction(db.on_behalf_of(who)) as session:
        return service.submit(session, tenant_id=DEFAULT_TENANT, wanted=build, settings=settings)


def follow(settings: Settings, named: str, seen: Callable[[Standing], None]) -> Standing:
    """Show a build to `seen` until it ends, and return its end. Raises NotFound, and NotBuilt where it failed."""
    while True:
        standing = look(settings, named)
        seen(standing)
        if standing.status == Making.FAILED:
            raise NotBuilt(standing.error or "")
        if standing.ended:
            return standing
        time.sleep(LOOK_SECONDS)


def look(settings: Settings, named: str) -> Standing:
    """Return how far the build of an id, or the newest of a model's name, is. Raises NotFound."""
    with closing(engines(settings)) as db, reading(db) as session:
        return service.standing(session, tenant_id=DEFAULT_TENANT, named=named)


def change(settings: Settings, folder: Path, name: str | None, what: Sequence[str], say: Say) -> None:
    """Change or look at the index in a folder, in a process of its own, and register what came of it.

    Raises InvalidModel with its words where the index does not allow it.
    """
    say(_worker("worker.edit", str(folder), *what))
    if what[0] in CHANGES:
        embedded.register(settings, folder, name, say)


def encode(folder: Path, audio: Path, out: Path, without: Path | None, say: Say) -> None:
    """Encode the songs of a model, in a process of its own. Raises InvalidModel with its words."""
    left_out = () if without is None else ("--without", str(without))
    _worker("worker.encode", str(folder), "--audio", str(audio), "--out", str(out), *left_out)
    say(f"Wrote {out}")


def _worker(module: str, *arguments: str) -> str:
    """Run a module of the worker, which may import torch, and return what it says."""
    command = (sys.executable, "-m", module, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise InvalidModel(words[-1] if words else f"exit status {done.returncode}")
    return done.stdout.strip()
