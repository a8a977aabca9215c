"""Polls at a constant rate until told to stop: `python -m bench.load.polls URL KEY RATE PATH…`, ended by closing stdin.

Open loop: a poll goes out when the clock says so, and its time runs from then, however slow the answers are. A process
of its own, so that what it uses of the shared cores can be told, and that as little as can be: nothing is read of an
answer but its status, its length and its Retry-After. No more than LINES are open and none is waited for longer than
PATIENCE_SECONDS, so that a service that does not answer cannot make it endless.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import resource
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from bench.history.client import RESTED_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME = "bench.load.polls: open loop at a constant rate, an asyncio protocol, kept-alive connections as needed"
PATIENCE_SECONDS = 20.0
LINES = 1_000
TICK_SECONDS = 0.001
LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_LATER = re.compile(rb"\r\nretry-after: *\d", re.IGNORECASE)

Outcome = Literal["answered", "refused", "failed"]
Done = tuple[float, float, float, Outcome]


class Line(asyncio.Protocol):
    """One kept-alive connection, on which one thing is asked at a time."""

    def __init__(self, free: deque[Line]) -> None:
        self._free, self._come = free, b""
        self.rests_since = 0.0
        self._told: Callable[[Outcome], None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes, told: Callable[[Outcome], None]) -> None:
        """Send a request; `told` hears how it ended."""
        assert self._transport is not None
        self._told, self._come = told, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take in a part of the answer."""
        self._come += data
        head, end, body = self._come.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and length and len(body) >= int(length[1]):
            self._end(outcome(head))
            self.rests_since = time.perf_counter()
            self._free.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        """What was asked is not answered any more."""
        if self in self._free:
            self._free.remove(self)
        self._end("failed")

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, how: Outcome) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(how)


def outcome(head: bytes) -> Outcome:
    """Say by the head of an answer how a poll ended: refused is what was told when to come back."""
    status = int(head[9:12])
    if status in LATER and _LATER.search(head):
        return "refused"
    return "answered" if status == HTTPStatus.OK else "failed"


@dataclass
class Polls:
    """What came back: for each poll its due time (Unix), how late it left and how long it took (s), how it ended."""

    url: str
    key: str | None
    rate: float
    done: list[Done] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._where, self._offset = urlsplit(self.url), time.time() - time.perf_counter()
        self._free: deque[Line] = deque()
        self._lines: list[Line] = []
        self._under_way = 0

    async def run(self, paths: Sequence[str], stop: asyncio.Event) -> None:
        """Poll the paths in turn until `stop` is set, then wait for what is under way."""
        requests = itertools.cycle([self._request(path) for path in paths])
        began, sent = time.perf_counter(), 0
        while not stop.is_set():
            due = int((time.perf_counter() - began) * self.rate) + 1
            for number in range(sent, due):
                self._poll(next(requests), began + number / self.rate)
            sent = due
            await asyncio.sleep(max(began + sent / self.rate - time.perf_counter(), TICK_SECONDS))
        limit = time.perf_counter() + PATIENCE_SECONDS
        while self._under_way and time.perf_counter() < limit:
            await asyncio.sleep(0.05)
        for line in self._lines:
            line.close()
        await asyncio.sleep(0)

    def _request(self, path: str) -> bytes:
        key = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        return f"GET {path} HTTP/1.1\r\nHost: {self._where.netloc}\r\n{key}\r\n".encode()

    def _poll(self, request: bytes, due: float) -> None:
        late = time.perf_counter() - due
        self._under_way += 1

        def told(how: Outcome) -> None:
            self._under_way -= 1
            self.done.append((due + self._offset, late, time.perf_counter() - due, how))

        line = self._rested()
        if line is not None:
            line.ask(request, told)
        elif len(self._lines) < LINES:
            asyncio.get_running_loop().create_task(self._ask_anew(request, told))
        else:
            told("failed")

    def _rested(self) -> Line | None:
        """Take the line that was used last, and hang up the one that has rested longest."""
        if self._free and time.perf_counter() - self._free[0].rests_since > RESTED_SECONDS:
            stale = self._free.popleft()
            self._lines.remove(stale)
            stale.close()
        return self._free.pop() if self._free else None

    async def _ask_anew(self, request: bytes, told: Callable[[Outcome], None]) -> None:
        line = Line(self._free)
        self._lines.append(line)
        try:
            await asyncio.get_running_loop().create_connection(lambda: line, self._where.hostname, self._where.port)
        except OSError:
            self._lines.remove(line)
            told("failed")
        else:
            line.ask(request, told)


async def _until_closed(stop: asyncio.Event) -> None:
    await asyncio.to_thread(sys.stdin.read)
    stop.set()


async def poll(polls: Polls, paths: Sequence[str]) -> dict[str, Any]:
    """Poll until stdin is closed; returns every poll and the CPU seconds that this process used."""
    stop = asyncio.Event()
    await asyncio.gather(_until_closed(stop), polls.run(paths, stop))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"polls": polls.done, "cpu_s": used.ru_utime + used.ru_stime}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(poll(Polls(*sys.argv[1:3], float(sys.argv[3])), sys.argv[4:]))))
