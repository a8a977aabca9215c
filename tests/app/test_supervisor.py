"""Programs are started in order, kept running, stopped in reverse, and never outlive their supervisor."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.supervisor import Program, ProgramFailed, Supervisor, tail

PATIENCE = 20.0
NOTE = """
import os, signal, sys, time
def note(word):
    with open(sys.argv[1], "a") as book:
        book.write(f"{word} {sys.argv[2]} {os.getpid()}\\n")
def leave(*_):
    note("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
note("begin")
time.sleep(600)
"""


def noting(name: str, book: Path) -> Program:
    """A program that notes its beginning and its end."""
    ready = lambda: f"begin {name} " in read(book)  # noqa: E731
    return Program(name, (sys.executable, "-c", NOTE, str(book), name), ready=ready)


def read(book: Path) -> str:
    return book.read_text() if book.exists() else ""


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def running(programs: list[Program], folder: Path) -> Iterator[list[str]]:
    said: list[str] = []
    supervisor = Supervisor(programs, folder / "logs", {}, said.append)
    started = threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(started.set,))
    thread.start()
    try:
        assert started.wait(PATIENCE)
        yield said
    finally:
        supervisor.stop.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_starts_in_order_and_stops_in_reverse(tmp_path: Path) -> None:
    book = tmp_path / "book"
    with running([noting(name, book) for name in ("one", "two", "three")], tmp_path):
        pass
    noted = [line.rsplit(" ", 1)[0] for line in read(book).splitlines()]
    assert noted == ["begin one", "begin two", "begin three", "end three", "end two", "end one"]


def test_a_killed_program_comes_back_and_its_last_words_are_shown(tmp_path: Path) -> None:
    book = tmp_path / "book"
    with running([noting("one", book)], tmp_path) as said:
        pid = int(read(book).split()[-1])
        (tmp_path / "logs" / "one.log").write_text("last words\n")
        os.kill(pid, signal.SIGKILL)
        until(lambda: read(book).count("begin") == 2)
        assert int(read(book).split()[-1]) != pid
        assert "one ended (SIGKILL)" in said[0]
        assert said[1] == "last words"


def test_a_program_that_keeps_ending_is_started_ever_less_often(tmp_path: Path) -> None:
    command = (sys.executable, "-S", "-c", "import sys; sys.exit(3)")
    with running([Program("brief", command)], tmp_path) as said:
        until(lambda: len(said) >= 4)
    pauses = [float(line.split(" in ")[1].split(" s")[0]) for line in said if " in " in line]
    assert pauses[:3] == pytest.approx([0.5, 1.0, 2.0])
    assert "exit status 3" in said[0]


def test_a_program_that_does_not_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    bad = Program("bad", (sys.executable, "-c", "print('no such model'); raise SystemExit(1)"), ready=lambda: False)
    supervisor = Supervisor([noting("good", tmp_path / "book"), bad], tmp_path / "logs", {}, print)
    with pytest.raises(ProgramFailed, match="no such model"):
        supervisor.run(lambda: None)
    assert read(tmp_path / "book").splitlines()[-1].startswith("end good")


def test_a_program_that_is_never_ready_is_an_error(tmp_path: Path) -> None:
    slow = Program("slow", (sys.executable, "-c", "import time; time.sleep(600)"), ready=lambda: False, ready_s=0.3)
    with pytest.raises(ProgramFailed, match="not ready"):
        Supervisor([slow], tmp_path / "logs", {}, print).run(lambda: None)


def test_a_stubborn_program_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    log = tmp_path / "logs" / "deaf.log"
    program = Program("deaf", (sys.executable, "-c", deaf), ready=lambda: "deaf" in tail(log), grace_s=0.2)
    began = time.monotonic()
    with running([program], tmp_path):
        pass
    assert time.monotonic() - began < PATIENCE / 2


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    book = tmp_path / "book"
    code = (
        "import sys; from pathlib import Path; from app.supervisor import *\n"
        "sleep = Program('sleep', (sys.executable, '-c', sys.argv[1], sys.argv[2], 'one'))\n"
        "Supervisor([sleep], Path(sys.argv[3]), {}, print).run(lambda: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, NOTE, str(book), str(tmp_path)])
    try:
        until(lambda: "begin" in read(book))
        child = int(read(book).split()[-1])
        assert lives(child)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not lives(child))


def test_tail_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert tail(tmp_path / "absent.log") == ""
