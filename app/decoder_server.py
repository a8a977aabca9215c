"""A process that has loaded what reads audio and makes a child for every file: started by `app.decoding`, never alone.

It reads no file itself. A request comes over its control socket: four bytes of length, JSON, and two descriptors, one
for the answer and one for complaints. The child writes the answer; when it has ended, a line of JSON with its exit
`status` (negative: the signal) and its `peak_kib` of memory follows. It ends, with its children, when the socket does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from app.decoder import answer
from app.decoding import LENGTH, PATIENCE, Request

GRACE_SECONDS = 2.0
"""A child that does not end by itself at its limit is killed so much later."""
REPLY, FIRST_OTHER = 3, 4


@dataclass(frozen=True)
class Child:
    """A child at work: where its end is to be told, and when it must have come."""

    reply: int
    deadline: float


@dataclass
class Server:
    """Makes children until the control socket is closed."""

    control: socket.socket
    children: dict[int, Child] = field(default_factory=dict)

    def run(self) -> None:
        """Serve; then kill what still works."""
        ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.control.fileno(), ended], [], [], self._patience())
            if ended in ready:
                os.read(ended, 1024)
            self._collect()
            if self.control.fileno() in ready and not self._take():
                break
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)

    def _patience(self) -> float | None:
        if not self.children:
            return None
        return max(0.0, min(each.deadline for each in self.children.values()) - time.monotonic())

    def _take(self) -> bool:
        """Take one request; False when there will be none any more."""
        head, (*descriptors,), _, _ = socket.recv_fds(self.control, LENGTH.size, 2)
        if len(head) < LENGTH.size:
            return False
        body = self.control.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL)
        reply, complaints = descriptors
        request = Request(**json.loads(body))
        pid = os.fork()
        if pid == 0:
            _work(request, reply, complaints)
        os.close(complaints)
        self.children[pid] = Child(reply, time.monotonic() + PATIENCE * request.decode_seconds + GRACE_SECONDS)
        return True

    def _collect(self) -> None:
        """Tell the ends of children, and kill those that are late."""
        for pid, child in list(self.children.items()):
            done, status, used = os.wait4(pid, os.WNOHANG)
            if done:
                del self.children[pid]
                _tell(child.reply, {"status": os.waitstatus_to_exitcode(status), "peak_kib": used.ru_maxrss})
            elif child.deadline < time.monotonic():
                os.kill(pid, signal.SIGKILL)


def _pipe() -> tuple[int, int]:
    pair = os.pipe()
    for end in pair:
        os.set_blocking(end, False)
    return pair


def _tell(reply: int, end: dict[str, Any]) -> None:
    with suppress(OSError):  # whoever asked may have given up
        os.write(reply, b"\n" + json.dumps(end).encode())
    os.close(reply)


def _work(request: Request, reply: int, complaints: int) -> NoReturn:
    """Do a child's part, holding nothing of the server or of other children."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        os.dup2(complaints, 2)
        os.dup2(reply, REPLY)
        os.closerange(FIRST_OTHER, 65_536)
        os.write(REPLY, json.dumps(answer(request)).encode())
        status = 0
    except Exception:  # noqa: BLE001  the end of a process: what it was is for the log
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    """Serve the control socket that was inherited under the number on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        Server(control).run()
