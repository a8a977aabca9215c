"""A decoder is a child of its own for every file, and holds nothing that a file could make use of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from app.audio import Limits
from app.config import Settings
from app.decoding import ROOT, Decoders, Request
from app.errors import DecoderFailed
from tests.app.sounds import Sound
from tests.processes import until

LIMITS = asdict(Limits.of(Settings()))
TRACK = Sound().encode()


@pytest.fixture
def track(tmp_path):
    path = tmp_path / "track"
    path.write_bytes(TRACK)
    return path


@pytest.fixture
def decoders():
    with closing(Decoders()) as started:
        yield started


def request(path, **changes):
    return Request(path=str(path), samples=None, **LIMITS | changes)


def server_of(decoders):
    return psutil.Process(decoders._process.pid)


def in_child(code, tmp_path):
    """What a process prints that has done what a decoder does before it reads."""
    start = f"import sys; sys.path.insert(0, {ROOT!r}); from app.decoder import *; import os, socket\n"
    return subprocess.run([sys.executable, "-I", "-c", start + code], capture_output=True, text=True, cwd=tmp_path)


def test_many_at_once_from_many_threads_are_all_answered(decoders, track):
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda _: decoders.read(request(track)), range(64)))
    assert {end.status for end in ends} == {0}
    assert {json.loads(end.answer)["frames"] for end in ends} == {44_100}
    assert all(end.peak_kib > 0 for end in ends)
    until(lambda: not server_of(decoders).children(), 5.0)


def test_a_server_that_was_killed_is_started_again(decoders, track):
    decoders.read(request(track))
    first = server_of(decoders).pid
    os.kill(first, signal.SIGKILL)
    assert decoders.read(request(track)).status == 0
    assert server_of(decoders).pid != first


def test_a_child_that_is_killed_is_told_of_and_the_others_go_on(decoders, track, tmp_path):
    pipe = tmp_path / "never"
    os.mkfifo(pipe)  # reading it waits without end
    ends = []
    waiting = threading.Thread(target=lambda: ends.append(decoders.read(request(pipe))))
    decoders.read(request(track))
    waiting.start()
    child = until(lambda: server_of(decoders).children(), 5.0)[0]
    assert decoders.read(request(track)).status == 0
    child.kill()
    waiting.join(5.0)
    assert [end.status for end in ends] == [-signal.SIGKILL]


def test_what_waits_too_long_is_ended(decoders, tmp_path):
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    assert decoders.read(request(pipe, decode_seconds=0.1)).status == -signal.SIGALRM


def test_it_ends_with_whoever_started_it(track):
    code = (
        f"import sys; sys.path.insert(0, {ROOT!r}); from app.decoding import *; import json, os\n"
        f"Decoders_ = decoders(); Decoders_.read(Request(**json.loads(sys.argv[1])))\n"
        f"print(Decoders_._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code, json.dumps(asdict(request(track)))], capture_output=True, text=True
    )
    pid = int(started.stdout)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 5.0)


def test_it_knows_no_secret_of_ours(decoders, track, monkeypatch):
    monkeypatch.setenv("ROOTNOTE_DATABASE_URL", "postgresql://me:secret@here/db")
    decoders.read(request(track))
    assert not {name for name in server_of(decoders).environ() if name.startswith("ROOTNOTE")}
    assert "secret" not in str(server_of(decoders).environ())


def test_a_child_can_open_neither_a_file_nor_a_socket(tmp_path):
    told = in_child(
        "shut()\n"
        "for act in (lambda: open('x', 'w'), lambda: open('/etc/passwd'), socket.socket, os.pipe):\n"
        "    try: act(); print('open')\n"
        "    except OSError: print('shut')\n",
        tmp_path,
    )
    assert told.stdout.split() == ["shut"] * 4, told.stderr
    assert not list(Path(tmp_path).iterdir())


def test_memory_time_and_written_bytes_end_a_child(tmp_path):
    limits = LIMITS | {"max_decoded_bytes": 1, "decode_seconds": 0.2}
    asked = f"confine(Request(path='', samples=None, **{limits!r}))\n"
    assert "MemoryError" in in_child(asked + "bytearray(3 * 2**30)", tmp_path).stderr
    assert in_child(asked + "while True: pass", tmp_path).returncode == -signal.SIGALRM
    written = in_child(asked + "open('x', 'wb', 0).write(bytes(2**24)); open('x', 'ab', 0).write(b'x')", tmp_path)
    assert written.returncode == -signal.SIGXFSZ or "File too large" in written.stderr
    assert (tmp_path / "x").stat().st_size < 2**21


def test_one_that_cannot_start_says_so(track):
    with pytest.raises(DecoderFailed):
        Decoders("/nonexistent/python").read(request(track))


def test_the_library_that_reads_audio_is_not_loaded_where_requests_are_served():
    code = "import sys, app.main, app.audio; print('soundfile' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_descriptors_do_not_pile_up(decoders, track):
    decoders.read(request(track))
    before = len(list(Path("/proc/self/fd").iterdir())), server_of(decoders).num_fds()
    for _ in range(20):
        decoders.read(request(track))
    assert (len(list(Path("/proc/self/fd").iterdir())), server_of(decoders).num_fds()) == before
