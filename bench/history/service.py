"""What is measured: the real API under uvicorn, and, to know the client's own part, a server that does nothing."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from app.up import HTTP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_EMPTY = """
import asyncio, sys
body = b"x" * int(sys.argv[2])
answer = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body
class Same(asyncio.Protocol):
    def connection_made(self, transport): self.out = transport
    def data_received(self, data): self.out.write(answer * data.count(b"\\r\\n\\r\\n"))
async def serve():
    server = await asyncio.get_running_loop().create_server(Same, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(serve())
"""


class Process:
    """A server at an address, and the CPU seconds that it and its children have used."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process, self._port = psutil.Process(process.pid), port

    def cpu(self) -> float:
        """Return CPU seconds so far, children included."""
        return cpu_of([self._process, *self._process.children(recursive=True)])

    def wait(self) -> None:
        """Wait until the port answers; raises TimeoutError."""
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError(self.url)


def cpu_of(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that processes have used."""
    return sum(times.user + times.system for times in (each.cpu_times() for each in processes))


def loop_and_parser() -> str:
    """Say which event loop and parser uvicorn takes here."""
    return f"{'uvloop' if importlib.util.find_spec('uvloop') else 'asyncio'} and httptools"


@contextmanager
def api(database_url: str, folder: Path, processes: int) -> Iterator[Process]:
    """Run the API as `rootnote up` runs it, with so many processes, over a database."""
    command = ("uvicorn", "--factory", "app.main:create_app", "--no-access-log", "--workers", str(processes))
    settings = {"ROOTNOTE_DATABASE_URL": database_url, "ROOTNOTE_DATA_DIR": str(folder), "ROOTNOTE_LOG_JSON": "true"}
    with _running((*command, *HTTP, "--host", "127.0.0.1"), folder / "api.log", settings) as served:
        yield served


@contextmanager
def empty(folder: Path, size: int) -> Iterator[Process]:
    """Run a server that answers everything at once with `size` bytes."""
    port = _free_port()
    with _started((sys.executable, "-c", _EMPTY, str(port), str(size)), folder / "empty.log", {}, port) as served:
        yield served


@contextmanager
def _running(command: tuple[str, ...], log: Path, settings: Mapping[str, str]) -> Iterator[Process]:
    port = _free_port()
    with _started((sys.executable, "-m", *command, "--port", str(port)), log, settings, port) as served:
        yield served


@contextmanager
def _started(command: tuple[str, ...], log: Path, settings: Mapping[str, str], port: int) -> Iterator[Process]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=out, stderr=subprocess.STDOUT)
    try:
        served = Process(process, port)
        served.wait()
        yield served
    finally:
        process.terminate()
        process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
