"""A worker lives while its sign of life is young, on its own host only."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from app.config import Settings
from app.db import Base, engines, transaction, utcnow
from app.models import Worker
from worker.alive import alive


def signed(data_dir: Path, hostname: str, age_s: float) -> Settings:
    """A database in which a worker of `hostname` was seen `age_s` seconds ago."""
    known = Settings(data_dir=data_dir)
    with closing(engines(known)) as db:
        Base.metadata.create_all(db.write)
        with transaction(db) as session:
            session.add(Worker(hostname=hostname, pid=1, device="cpu", seen_at=utcnow() - timedelta(seconds=age_s)))
    return known


@pytest.mark.parametrize(("hostname", "age_s", "expected"), [("a", 1, True), ("a", 61, False), ("b", 1, False)])
def test_a_recent_sign_of_the_same_host_counts(tmp_path: Path, hostname: str, age_s: float, *, expected: bool) -> None:
    with closing(engines(signed(tmp_path, "a", age_s))) as db:
        assert alive(db, hostname, 60) is expected


@pytest.mark.parametrize(("age_s", "status"), [(0, 0), (3600, 1)])
def test_the_command_answers_by_its_exit_status(tmp_path: Path, age_s: float, status: int) -> None:
    signed(tmp_path, socket.gethostname(), age_s)
    environment = {**os.environ, "ROOTNOTE_DATA_DIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-m", "worker.alive"], env=environment, timeout=60).returncode == status


def test_without_a_database_the_worker_counts_as_dead(tmp_path: Path) -> None:
    environment = {**os.environ, "ROOTNOTE_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    assert subprocess.run([sys.executable, "-m", "worker.alive"], env=environment, timeout=60).returncode == 1
