"""The embedded set-up: one service a data folder, and a broker that forgets nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from app import up
from app.config import Settings
from app.db import engines
from app.demo import free_port
from app.errors import InvalidModel
from app.models import DEFAULT_TENANT, Model
from app.supervisor import Program, end, start
from tests.app.here import make_key
from tests.app.world import model_folder, rows
from tests.processes import alive, kill, until


def nothing(_: str) -> None:
    """Say nothing."""


@contextmanager
def started(program: Program, folder: Path) -> Iterator[int]:
    process = start(program.command, folder / "log", {})
    try:
        until(program.ready, 20.0)
        yield process.pid
    finally:
        end(process, 5.0)


def broker(settings: Settings) -> tuple[Program, Path]:
    """The embedded broker of these settings, and its socket."""
    programs = up.programs(settings)
    return programs.programs[0], Path(programs.broker_url.removeprefix("redis+socket://"))


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with up.locked(tmp_path / "data"), pytest.raises(up.AlreadyRunning), up.locked(tmp_path / "data"):
        pass
    with up.locked(tmp_path / "data"):
        pass


def test_a_port_that_is_taken_is_said_before_anything_starts(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = settings.model_copy(update={"port": other.getsockname()[1]})
        with pytest.raises(up.PortTaken):
            up.serve(taken, nothing, threading.Event())
    assert not (settings.data_dir / "rootnote.db").exists()


@pytest.mark.parametrize("given", [{"host": "0.0.0.0"}, {"auth": "required"}])  # noqa: S104
def test_other_machines_are_not_served_before_a_key_exists(settings: Settings, given: dict[str, str]) -> None:
    asked = settings.model_copy(update={"models": (), "port": free_port("127.0.0.1", 0), **given})
    with pytest.raises(up.OpenToAll, match="rootnote keys create"):
        up.serve(asked, nothing, threading.Event())
    with closing(engines(asked)) as db:
        make_key(db, DEFAULT_TENANT)
    up.require_keys(asked)


def test_this_machine_is_served_without_a_key(settings: Settings) -> None:
    up.require_keys(settings)


def test_preparing_twice_registers_once(settings: Settings) -> None:
    ready = settings.model_copy(update={"models": (model_folder(settings.data_dir),)})
    said: list[str] = []
    for _ in range(2):
        up.prepare(ready, said.append)
    with closing(engines(ready)) as db:
        assert rows(db, Model) == 1
    assert said[1] == said[3]
    assert "5 songs" in said[1]


def test_a_folder_without_a_model_is_an_error(database_settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel):
        up.register(database_settings, tmp_path, None, nothing)


def test_the_embedded_broker_remembers_what_it_was_told_before_it_was_killed(settings: Settings) -> None:
    program, path = broker(settings)
    with started(program, settings.data_dir) as pid:
        with Redis(unix_socket_path=str(path)) as client:
            client.lpush("queue", "message")
        kill(pid)
    with started(program, settings.data_dir), Redis(unix_socket_path=str(path)) as client:
        assert client.lrange("queue", 0, -1) == [b"message"]


def test_a_long_data_folder_has_a_short_socket(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / ("long" * 30))
    program, path = broker(settings)
    assert len(str(path)) < 104
    with started(program, tmp_path) as pid:
        assert alive(pid)
    assert broker(settings)[1] == path


def test_a_broker_of_one_s_own_is_not_started(settings: Settings) -> None:
    own = settings.model_copy(update={"broker_url": "redis://broker:6379/0"})
    programs = up.programs(own)
    assert [program.name for program in programs.programs] == ["sweeper", "sender", "worker", "builder", "api"]
    assert programs.broker_url == own.broker_url
