"""The API under load: on SQLite and on Postgres, with broker and sweeper, without a worker."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench import hardware
from bench.chaos import setups
from bench.chaos.setups import Service, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STARTER = hardware.ROOT / "starter"


@contextmanager
def postgres(folder: Path, processes: int) -> Iterator[Service]:
    """Run it on a Postgres of its own."""
    with setups.production(_wanted(folder, processes)) as service:
        yield service


@contextmanager
def sqlite(folder: Path, processes: int) -> Iterator[Service]:
    """Run it on a SQLite file."""
    with setups.apart(_wanted(folder, processes)) as service:
        yield service


def _wanted(folder: Path, processes: int) -> Wanted:
    return Wanted(folder, STARTER, {"api_processes": processes}, workers=0)


SETUPS = {"postgres": postgres, "sqlite": sqlite}
