"""Two API processes behind one address: either tells what both served, and none outlives who started them."""

from __future__ import annotations

import re
import signal
import socket
from contextlib import contextmanager

import httpx
import psutil
import pytest

from app import supervisor, up
from app.demo import free_port
from app.main import create_app
from app.metrics.together import FOLDER
from tests.app.live import serving
from tests.processes import environment, until

SERVED = re.compile(r'^rootnote_requests_total\{method="GET",route="/healthz",status="200"\} (\S+)$', re.MULTILINE)


@contextmanager
def two(settings, folder):
    """The address of the API, which is two processes, and the one that started them."""
    asked = settings.model_copy(update={"api_processes": 2, "port": free_port("127.0.0.1", 0)})
    *_, program = up.programs(asked).programs
    shared = {FOLDER: str(folder / "metrics")}
    process = supervisor.start(program.command, folder / "log", environment(asked) | shared)
    try:
        until(lambda: _served(f"http://127.0.0.1:{asked.port}") is not None, 60.0)
        yield asked.port, psutil.Process(process.pid)
    finally:
        supervisor.end(process, 10.0)


def _served(url):
    try:
        return httpx.get(f"{url}/metrics").text
    except httpx.TransportError:
        return None


def _children(process):
    return [each for each in process.children() if "spawn_main" in " ".join(each.cmdline())]


def test_either_tells_what_both_have_served(database_settings, tmp_path):
    with two(database_settings, tmp_path) as (port, process):
        url, asked = f"http://127.0.0.1:{port}", 0
        until(lambda: len(_children(process)) == 2, 60.0)
        while asked < 60 or len(list((tmp_path / "metrics").glob("counter_*.db"))) < 2:
            assert httpx.get(f"{url}/healthz").is_success
            asked += 1
            assert asked < 2_000
        # A request is counted once it has been answered, so the last one maybe a moment later.
        until(lambda: {SERVED.search(_served(url))[1] for _ in range(10)} == {f"{asked}.0"})


def test_none_outlives_the_process_that_started_them(database_settings, tmp_path):
    with two(database_settings, tmp_path) as (port, process):
        until(lambda: len(_children(process)) == 2, 60.0)
        children = _children(process)
        process.send_signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs(children, timeout=20.0)
        assert (len(gone), alive) == (2, [])
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_one_alone_needs_no_folder(database_settings, monkeypatch):
    monkeypatch.delenv(FOLDER, raising=False)
    with serving(create_app(database_settings)) as url:
        httpx.get(f"{url}/healthz")
        assert SERVED.search(_served(url))[1] == "1.0"


@pytest.mark.parametrize("processes", [1, 2])
def test_the_embedded_set_up_gives_them_a_folder_where_they_are_several(settings, processes):
    asked = settings.model_copy(update={"api_processes": processes})
    given = up._environment(asked, "redis://here")
    assert given.get(FOLDER) == (str(asked.data_dir / "metrics") if processes == 2 else None)
    *_, api = up.programs(asked).programs
    assert api.command[api.command.index("--workers") + 1] == str(processes)
