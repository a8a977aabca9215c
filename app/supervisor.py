"""Programs kept running: started in order, restarted with growing pauses, stopped in reverse, never left behind."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import Unavailable

Say = Callable[[str], None]
LOOK_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 30.0
"""A program that ran this long starts again without a pause."""
TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProgramFailed(Unavailable):
    """A program ended before it was ready."""

    type, title = "program-failed", "A part of the service did not start"


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Program:
    """A command to keep running; `ready` says when the next may start, it gets `grace_s` to stop."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] = _always
    ready_s: float = 60.0
    grace_s: float = 10.0


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, or nothing where there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 16_384))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that Ctrl-C reaches only its starter; its output goes to `log`.

    On Linux the kernel kills it when the thread that started it ends.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603  our own commands
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=_die_with_parent if _LIBC else None,
        )


def tell_when_parent_dies(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when the thread that started it ends; only on Linux."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)


def _die_with_parent() -> None:
    tell_when_parent_dies(signal.SIGKILL)


def end(process: subprocess.Popen[bytes], grace_s: float) -> int:
    """Ask a process to stop, kill it and all of its session after `grace_s`; returns its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@dataclass
class _Kept:
    """A program as it runs now."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    next_start: float = 0.0

    def ended(self, now: float) -> int | None:
        """Its exit status when it just ended, after which `next_start` says when to start it again."""
        status = self.process.poll() if self.process else None
        if status is None:
            return None
        self.process = None
        self.failures = 0 if now - self.started > STEADY_SECONDS else self.failures + 1
        self.next_start = now + min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** max(0, self.failures - 1))
        return status


@dataclass
class Supervisor:
    """Keeps programs running until told to stop; what they print lies in `logs/<name>.log`."""

    programs: Sequence[Program]
    logs: Path
    environment: Mapping[str, str]
    say: Say
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, started: Callable[[], None]) -> None:
        """Start everything in order, call `started`, keep it running until `stop` is set, then stop it in reverse.

        Raises ProgramFailed when a program does not get ready the first time.
        """
        kept = [_Kept(program) for program in self.programs]
        try:
            for each in kept:
                self._start(each)
                self._await(each)
            if not self.stop.is_set():
                started()
            while not self.stop.wait(LOOK_SECONDS):
                for each in kept:
                    self._look_after(each)
        finally:
            self._end(kept)

    def _log(self, each: _Kept) -> Path:
        return self.logs / f"{each.program.name}.log"

    def _start(self, each: _Kept) -> None:
        each.started = time.monotonic()
        each.process = start(each.program.command, self._log(each), self.environment)

    def _await(self, each: _Kept) -> None:
        limit = time.monotonic() + each.program.ready_s
        while not self.stop.is_set() and not each.program.ready():
            ended = each.process is None or each.process.poll() is not None
            if ended or time.monotonic() > limit:
                reason = "ended at once" if ended else f"was not ready after {each.program.ready_s:g} s"
                raise ProgramFailed(f"{each.program.name} {reason}. Its last words:\n{tail(self._log(each))}")
            self.stop.wait(LOOK_SECONDS)

    def _look_after(self, each: _Kept) -> None:
        now = time.monotonic()
        status = each.ended(now)
        if status is not None:
            pause = each.next_start - now
            self.say(f"{each.program.name} ended ({_meaning(status)}); starting it again in {pause:g} s")
            if each.failures <= 1:
                self.say(tail(self._log(each)))
        if each.process is None and now >= each.next_start:
            self._start(each)

    def _end(self, kept: Sequence[_Kept]) -> None:
        for each in reversed(kept):
            if each.process is not None:
                end(each.process, each.program.grace_s)


def _meaning(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
