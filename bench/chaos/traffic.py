"""The caller: posts track after track, sends again what got no answer, cancels a few, and watches how they end."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from app.models import Status
from bench.chaos.tracks import track

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.chaos.journal import Journal

ACCEPTED = 202
ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED})
TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
PAUSE_SECONDS = 0.2
LOOK_SECONDS = 0.06
TRACKS = 40


@dataclass(frozen=True)
class Habits:
    """How the caller behaves: posts and jobs waiting at a time, which part it cancels, the seed of its choices."""

    posts: int = 3
    waiting: int = 12
    canceled: float = 0.03
    seed: int = 0


@dataclass
class Caller:
    """Threads that talk to a service until told to stop; what they learn is in the journals."""

    url: str
    accepted: Journal
    ends: Journal
    habits: Habits = Habits()
    sent: int = 0
    retried: int = 0
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop, self._quiet = threading.Event(), threading.Event()
        self._draw = random.Random(self.habits.seed)  # noqa: S311  repeatable, not secret
        self._numbers = itertools.count(self.jobs)
        self._lock = threading.Lock()
        self._tracks = [track(self.habits.seed * TRACKS + number) for number in range(TRACKS)]
        seen = {line["id"] for line in self.ends.lines}
        self._waiting = [line["id"] for line in self.accepted.lines if line["id"] not in seen]
        work = (*(self._post_all,) * self.habits.posts, self._watch)
        self._threads = [threading.Thread(target=each, name=each.__name__) for each in work]

    @property
    def jobs(self) -> int:
        """How many jobs the service has accepted."""
        return len(self.accepted.lines)

    @property
    def ended(self) -> int:
        """How many jobs it saw end."""
        return len(self.ends.lines)

    def saw(self, ends: int) -> bool:
        """Whether it saw so many jobs end."""
        return self.ended >= ends

    def __enter__(self) -> Caller:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.quiet()
        self._stop.set()
        for each in self._threads:
            each.join()

    def quiet(self) -> None:
        """Post no more; go on watching."""
        self._quiet.set()

    def _post_all(self) -> None:
        with httpx.Client(base_url=self.url, timeout=15.0) as client:
            while not self._quiet.wait(0.0 if len(self._waiting) < self.habits.waiting else LOOK_SECONDS):
                if len(self._waiting) < self.habits.waiting:
                    self._post(client, f"{self.habits.seed}-{next(self._numbers):06}")

    def _post(self, client: httpx.Client, name: str) -> None:
        """Send a track until it is accepted, under one name and one key; a definite refusal is noted."""
        sound, tries = self._draw.choice(self._tracks), 0
        while not self._quiet.is_set():
            tries += 1
            answer = _answer(
                lambda: client.post(
                    "/v1/attributions",
                    headers={"Idempotency-Key": f"chaos-{name}"},
                    data={"external_id": name},
                    files={"audio": ("track.wav", sound)},
                )
            )
            if answer is not None and answer.status_code == ACCEPTED:
                self._accept(client, answer.json()["id"], name, tries)
                return
            if answer is not None and answer.status_code not in TRY_AGAIN:
                self.refused.append(f"{answer.status_code} {answer.text[:300]}")
                return
            self._quiet.wait(_pause(answer))

    def _accept(self, client: httpx.Client, ident: str, name: str, tries: int) -> None:
        self.accepted.note(id=ident, name=name, tries=tries)
        with self._lock:
            self.sent, self.retried = self.sent + tries, self.retried + (tries > 1)
            self._waiting.append(ident)
        if self._draw.random() < self.habits.canceled:
            _answer(lambda: client.post(f"/v1/attributions/{ident}/cancel"))

    def _watch(self) -> None:
        with httpx.Client(base_url=self.url, timeout=15.0) as client:
            while not self._stop.wait(LOOK_SECONDS):
                with self._lock:
                    ident = self._waiting.pop(0) if self._waiting else None
                if ident and not self._ended(client, ident):
                    with self._lock:
                        self._waiting.append(ident)

    def _ended(self, client: httpx.Client, ident: str) -> bool:
        answer = _answer(lambda: client.get(f"/v1/attributions/{ident}"))
        if answer is None or not answer.is_success:
            return False
        shown: dict[str, Any] = answer.json()
        if shown["status"] not in ENDED:
            return False
        self.ends.note(id=ident, status=shown["status"], error=(shown["error"] or {}).get("type"))
        return True


def _answer(call: Callable[[], httpx.Response]) -> httpx.Response | None:
    try:
        return call()
    except httpx.TransportError:
        return None


def _pause(answer: httpx.Response | None) -> float:
    told = answer.headers.get("Retry-After", "") if answer is not None else ""
    return float(told) if told.isdecimal() else PAUSE_SECONDS
