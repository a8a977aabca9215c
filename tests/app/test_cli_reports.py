"""Reports by command: fetched as they are, verified by the service or without it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.client import Client, Track
from tests.app.live import serving
from tests.app.sounds import Sound
from tests.app.world import complete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from app.config import Settings
    from app.db import Database
    from app.models import Model
    from tests.app.shell import Shell


@pytest.fixture
def ended(
    app: FastAPI, model: Model, database: Database, settings: Settings, run: Shell, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The id of an attribution that has succeeded, at a service that the commands find."""
    with serving(app) as url, Client(url) as client:
        monkeypatch.setenv("ROOTNOTE_URL", url)
        monkeypatch.setenv("ROOTNOTE_DATA_DIR", str(settings.data_dir))
        Path("track.wav").write_bytes(Sound().encode())
        ident = client.post(Track(Path("track.wav"))).id
        complete(database, settings, ident)
        yield ident


def last(out: str) -> dict[str, Any]:
    """The flat JSON object that was printed last; the service of the test speaks too."""
    return dict(json.loads("{" + out.rpartition("{")[2]))


def test_a_report_is_fetched_and_verified_with_and_without_a_service(
    run: Shell,
    ended: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run("report", ended, "--out", "report.json")[0] == 0
    status, out, _ = run("verify", "report.json")
    assert (status, "valid: rootnote.report" in out, ended in out) == (0, True, True)
    key = last(run("report-keys", "list", "--json")[1])
    Path("public.txt").write_text(key["public_key"])
    monkeypatch.setenv("ROOTNOTE_URL", "http://127.0.0.1:9")
    for given in (key["public_key"], "public.txt"):
        status, out, _ = run("verify", "report.json", "--key", given, "--json")
        assert (status, last(out)["subject"]) == (0, ended)
    status, out, _ = run("verify", "report.json", "--key", "00" * 32)
    assert (status, "not known" in out) == (1, True)
    status, _, wrong = run("verify", "report.json", "--key", "nonsense")
    assert (status, "64 hexadecimal digits" in wrong) == (1, True)
    Path("report.json").write_bytes(Path("report.json").read_bytes().replace(b"track.wav", b"track.wax"))
    status, out, _ = run("verify", "report.json", "--key", "public.txt")
    assert (status, "not valid" in out) == (1, True)


def test_a_table_is_fetched(run: Shell, ended: str) -> None:
    assert run("report", ended, "--csv", "--out", "report.csv")[0] == 0
    with Path("report.csv").open(newline="") as file:
        assert [row["rank"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5", ""]


def test_a_key_is_replaced_by_command(run: Shell, ended: str) -> None:
    run("report", ended, "--out", "first.json")
    status, out, _ = run("report-keys", "rotate")
    assert (status, "reports.pem" in out) == (0, True)
    run("report", ended, "--out", "second.json")
    assert [run("verify", name)[0] for name in ("first.json", "second.json")] == [0, 0]
    assert run("report-keys", "list")[1].count(" since ") == 2
