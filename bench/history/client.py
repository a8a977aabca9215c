"""An open-loop HTTP client: requests go out when the clock says so, however slow the answers are.

A request's time runs from the instant at which it was due, not from when it was sent: a client that waits for slow
answers would leave out just the requests that would have been slow. It stands on asyncio's streams alone, because it
shares its cores with what it measures: a full HTTP client takes several times as much of them.
"""

from __future__ import annotations

import asyncio
import math
import re
import resource
import time
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "bench.history.client: open loop at a constant rate, asyncio streams, kept-alive connections as needed"
RESTED_SECONDS = 2.0
"""A connection that rested longer is hung up: the service does so after 5 s, maybe just when it is used again."""
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """What is asked for, once each, and how often a second."""

    url: str
    paths: Sequence[str]
    rate: float


@dataclass(frozen=True)
class Answers:
    """How a load was answered; times in milliseconds, from due to done."""

    requests: int
    failed: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float
    client_cpu_ms: float
    response_bytes: int

    @property
    def rate(self) -> float:
        """Requests a second that were really sent."""
        return self.requests / self.seconds


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` per cent of `values` do not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def run(load: Load) -> Answers:
    """Send a load and say how it was answered.

    `late_p99_ms` is how long after its due time a request left, `client_cpu_ms` what the client itself used of a core
    for each request.
    """
    return asyncio.run(_run(load))


class Connection:
    """One kept-alive HTTP/1.1 connection, which does for GET what this benchmark needs and nothing else."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: str) -> None:
        self._reader, self._writer, self._headers = reader, writer, headers

    async def get(self, path: str) -> tuple[int, int]:
        """Return status and body length; raises OSError or EOFError when the connection breaks."""
        self._writer.write(f"GET {path} HTTP/1.1\r\n{self._headers}\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(_LENGTH.search(head)[1])  # type: ignore[index]  # the service always tells
        await self._reader.readexactly(length)
        return int(head[9:12]), length

    def close(self) -> None:
        """Close it."""
        self._writer.close()


class Pool:
    """Connections that are kept; one is opened where none is free. With a key every request shows it."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self._url = urlsplit(url)
        self._headers = f"Host: {self._url.netloc}\r\n" + (f"Authorization: Bearer {key}\r\n" if key else "")
        self._free: list[tuple[Connection, float]] = []

    async def get(self, path: str) -> tuple[int, int]:
        """Return status and body length over a free connection."""
        connection = self._rested() or await self._open()
        found = await connection.get(path)
        self._free.append((connection, time.perf_counter()))
        return found

    def close(self) -> None:
        """Close what is free."""
        for each, _ in self._free:
            each.close()

    def _rested(self) -> Connection | None:
        """Return the connection that was used last, and hang up on those that rested too long."""
        while self._free:
            connection, since = self._free.pop()
            if time.perf_counter() - since < RESTED_SECONDS:
                return connection
            connection.close()
        return None

    async def _open(self) -> Connection:
        assert self._url.hostname
        return Connection(*await asyncio.open_connection(self._url.hostname, self._url.port), self._headers)


async def _run(load: Load) -> Answers:
    seen = _Seen()
    with closing(Pool(load.url)) as pool:
        before, began = _cpu(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, path in enumerate(load.paths):
                due = began + number / load.rate
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                group.create_task(seen.ask(pool, path, due))
        cpu, seconds = _cpu() - before, time.perf_counter() - began
    return seen.answers(seconds, cpu)


@dataclass
class _Seen:
    """What came back so far; times in milliseconds."""

    late: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    async def ask(self, pool: Pool, path: str, due: float) -> None:
        self.late.append((time.perf_counter() - due) * 1000)
        try:
            status, size = await pool.get(path)
        except (OSError, EOFError):
            return
        if status == HTTPStatus.OK:
            self.spent.append((time.perf_counter() - due) * 1000)
            self.sizes.append(size)

    def answers(self, seconds: float, cpu: float) -> Answers:
        count = len(self.late)
        times = [round(percentile(self.spent, percent), 2) for percent in (50, 95, 99, 100)]
        worst, used = round(percentile(self.late, 99), 2), round(cpu / count * 1000, 3)
        return Answers(count, count - len(self.spent), round(seconds, 3), *times, worst, used, max(self.sizes))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
