"""Waiting for an attribution to end without holding a thread or a connection in between (`Prefer: wait=N`)."""

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from app.admission import leave
from app.models import Status

if TYPE_CHECKING:
    import threading

LONGEST_SECONDS = 60
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED})
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.ASCII | re.IGNORECASE)


class HasStatus(Protocol):
    """Anything that says where an attribution stands."""

    status: Status


def preferred_wait(prefer: str | None) -> int:
    """Return the seconds that a Prefer header (RFC 7240) asks to wait, at most 60; 0 without one that can be read."""
    found = _WAIT.search(prefer or "")
    return min(int(found.group(1)), LONGEST_SECONDS) if found else 0


Seen = TypeVar("Seen", bound=HasStatus)


async def until_ended(look: Callable[[], Seen], seconds: float, request: Request) -> Seen:
    """Look again and again, each time in a thread of the pool, until the end, the time is up, or someone leaves."""
    clock = asyncio.get_running_loop().time
    deadline, pause = clock() + seconds, FIRST_PAUSE
    seen = await run_in_threadpool(look)
    leaving: threading.Event = request.app.state.leaving
    while seen.status not in ENDED and clock() < deadline and not (leaving.is_set() or await request.is_disconnected()):
        leave(request.scope)  # who only waits takes no room
        await asyncio.sleep(min(pause, max(deadline - clock(), 0)))
        pause = min(pause * 1.5, LONGEST_PAUSE)
        seen = await run_in_threadpool(look)
    return seen
