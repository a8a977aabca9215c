"""Asks the process that makes decoders (`app.decoder_server`) to read a file; starts it when it is needed.

The library that reads audio is never loaded here.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import DecoderFailed

if TYPE_CHECKING:
    from typing import BinaryIO

ROOT = str(Path(__file__).parents[1])
START = "import sys; sys.path.insert(0, sys.argv.pop()); from app.decoder_server import main; main()"
KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
"""What a decoder learns of our environment: no address, no password."""
GRACE_SECONDS = 5.0
PATIENCE = 2
"""How many times its processor time decoding may take on the wall clock: a busy machine is no fault of the file."""
LENGTH = struct.Struct("!I")
"""What goes before each request: how many bytes it has."""
RESTARTS = 2
LONGEST_ANSWER = 65_536
LONGEST_COMPLAINT = 4_000


@dataclass(frozen=True)
class Request:
    """What to read, where to write the decoded float32 (None: look at the header alone), and `app.audio.Limits`."""

    path: str
    samples: str | None
    min_seconds: float
    max_seconds: float
    max_channels: int
    min_rate: int
    max_rate: int
    max_decoded_bytes: int
    decode_seconds: float


@dataclass(frozen=True)
class Ended:
    """How reading a file ended: the child's exit status (negative: a signal), what it said, its peak memory in KiB."""

    status: int
    answer: bytes
    complaint: str
    peak_kib: int


class _Gone(DecoderFailed):
    """The process that makes decoders could not be started, or was ended from outside."""


class Decoders:
    """The one process of this process that makes decoders; may be asked from any thread."""

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, request: Request) -> Ended:
        """Read a file in a child of its own. Raises DecoderFailed when there is no end of it to tell."""
        for _ in range(RESTARTS):
            with suppress(_Gone):  # started again by the next try; no file reaches that process, so none is the cause
                return self._once(request)
        return self._once(request)

    def close(self) -> None:
        """End the process and whatever it decodes."""
        with self._lock:
            self._stop()

    def _once(self, request: Request) -> Ended:
        mine, theirs = os.pipe()
        with open(mine, "rb", buffering=0) as reply, tempfile.TemporaryFile() as complaints:  # noqa: PTH123 (a descriptor)
            try:
                self._ask(json.dumps(asdict(request)).encode(), [theirs, complaints.fileno()])
            finally:
                os.close(theirs)
            said = _all(reply, time.monotonic() + PATIENCE * request.decode_seconds + GRACE_SECONDS)
            complaints.seek(0)
            return _ended(said, complaints.read(LONGEST_COMPLAINT).decode("utf-8", "replace"))

    def _ask(self, body: bytes, descriptors: list[int]) -> None:
        """Send a request, to a new process where the one before has ended."""
        with self._lock:
            try:
                control = self._running()
                socket.send_fds(control, [LENGTH.pack(len(body))], descriptors)
                control.sendall(body)
            except OSError as error:
                self._stop()
                raise _Gone from error

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        self._control, theirs = socket.socketpair()
        self._control.settimeout(GRACE_SECONDS)
        with closing(theirs):
            self._process = subprocess.Popen(  # noqa: S603  our own program
                [self._python, "-I", "-c", START, str(theirs.fileno()), ROOT],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={name: os.environ[name] for name in KEPT if name in os.environ} | {"OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
        return self._control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:  # it ends by itself when the socket is closed, and ends its children
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None


def _all(reply: BinaryIO, deadline: float) -> bytes:
    """What comes until the end; raises DecoderFailed when that does not come in time, or too much does."""
    said = b""
    while select.select([reply], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = reply.read(LONGEST_ANSWER)
        if not piece:
            return said
        said += piece
        if len(said) > LONGEST_ANSWER:
            break
    raise DecoderFailed("the decoder gave no answer")


def _ended(said: bytes, complaint: str) -> Ended:
    answer, _, told = said.rpartition(b"\n")
    if not told:
        raise _Gone
    end = json.loads(told)
    return Ended(end["status"], answer, complaint, end["peak_kib"])


@lru_cache(maxsize=1)
def decoders() -> Decoders:
    """The decoders of this process."""
    return Decoders()


os.register_at_fork(after_in_child=decoders.cache_clear)
atexit.register(lambda: decoders().close() if decoders.cache_info().currsize else None)
