"""Polls at a constant rate until told to stop: `python -m bench.load.polls URL KEY RATE PATH…`, ended by closing stdin.

Open loop: a poll goes out when the clock says so, and its time runs from then, however slow the answers are. A process
of its own, so that what it uses of the shared cores can be told.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.history.client import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "bench.load.polls: open loop at a constant rate, asyncio streams, kept-alive connections as needed"
PATIENCE_SECONDS = 30.0


@dataclass
class Polls:
    """What came back: for each poll its due time (Unix), how late it left and how long it took (s), its status."""

    rate: float
    done: list[tuple[float, float, float, int]] = field(default_factory=list)

    async def run(self, pool: Pool, paths: Sequence[str], stop: asyncio.Event) -> None:
        """Poll the paths in turn until `stop` is set."""
        began, offset = time.perf_counter(), time.time() - time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, path in enumerate(itertools.cycle(paths)):
                due = began + number / self.rate
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                if stop.is_set():
                    return
                group.create_task(self._ask(pool, path, due, offset))

    async def _ask(self, pool: Pool, path: str, due: float, offset: float) -> None:
        late = time.perf_counter() - due
        try:
            status, _ = await asyncio.wait_for(pool.get(path), PATIENCE_SECONDS)
        except (OSError, EOFError, TimeoutError):
            status = 0
        self.done.append((due + offset, late, time.perf_counter() - due, status))


async def _until_closed(stop: asyncio.Event) -> None:
    await asyncio.to_thread(sys.stdin.read)
    stop.set()


async def poll(pool: Pool, rate: float, paths: Sequence[str]) -> dict[str, Any]:
    """Poll until stdin is closed; returns every poll and the CPU seconds that this process used."""
    stop, polls = asyncio.Event(), Polls(rate)
    with closing(pool):
        await asyncio.gather(_until_closed(stop), polls.run(pool, paths, stop))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"polls": polls.done, "cpu_s": used.ru_utime + used.ru_stime}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(poll(Pool(*sys.argv[1:3]), float(sys.argv[3]), sys.argv[4:]))))
