"""What is logged of a job: all of it under the id of the request that it came from, and nothing that is not ours."""

from __future__ import annotations

import io
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import logs
from app.catalogue.registry import register_model
from app.config import Settings
from app.db import Database, transaction
from app.main import create_app
from app.models import DEFAULT_TENANT
from app.storage import Storage
from tests.app.here import client_of
from tests.app.live import serving
from tests.app.sounds import Sound
from worker.presence import Presence
from worker.resident import Resident
from worker.tasks import carry_out

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.engine import Engine

TRACK = Sound(seconds=1.5, rate=8000).encode()
SECRETS = {"prompt": "whispered words", "external_id": "their-own-name-7"}
FILE, KEY, QUERY = "unreleased-song.wav", "rn_not-a-key-of-ours", "a-searched-title"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What this process logs, as JSON; afterwards it logs as before."""
    written, handlers, level = io.StringIO(), logging.root.handlers[:], logging.root.level
    monkeypatch.setattr("sys.stderr", written)
    logs.configure(Settings(log_json=True))
    yield written
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def held(tiny_engine: Engine, database: Database, database_settings: Settings, tiny_folder: Path) -> Resident:
    with transaction(database) as session:
        model = register_model(session, DEFAULT_TENANT, tiny_folder, "starter")
    presence = Presence(database, model_id=model.id, device="cpu", every_s=60.0)
    return Resident(tiny_engine, database, Storage.open(database_settings.storage_url), database_settings, presence)


def events(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_one_search_finds_the_whole_life_of_a_job(held: Resident, lines: io.StringIO) -> None:
    with client_of(create_app(held.settings)) as client:
        sent = {"files": {"audio": (FILE, TRACK)}, "data": SECRETS, "headers": {"X-Request-ID": "find-me-1"}}
        ident = client.post("/v1/attributions", **sent).json()["id"]
        client.get("/v1/songs", params={"q": QUERY}, headers={"Authorization": f"Bearer {KEY}"})
    carry_out(held, ident, threading.Event())
    life = [line for line in events(lines) if line.get("request_id") == "find-me-1"]
    assert [line["event"] for line in life] == [
        *("decoder ended", "queued", "doorbell silent", "request"),
        *("begun", "decoder ended", "succeeded"),
    ]
    assert [line["id"] for line in life if "id" in line] == [ident] * 4
    assert {line["attempt"] for line in life[4:]} == {1}


def test_nothing_that_a_caller_says_is_in_the_log(held: Resident, lines: io.StringIO) -> None:
    with client_of(create_app(held.settings)) as client:
        sent = {"files": {"audio": (FILE, TRACK)}, "data": SECRETS}
        ident = client.post("/v1/attributions", **sent).json()["id"]
        client.get("/v1/songs", params={"q": QUERY}, headers={"Authorization": f"Bearer {KEY}"})
        client.post("/v1/songs", json={"title": ["of the wrong kind"], "artist": "nobody in particular"})
    carry_out(held, ident, threading.Event())
    said = lines.getvalue()
    assert len(events(lines)) > 5
    assert not [word for word in (*SECRETS.values(), FILE, KEY, QUERY, "wrong kind", "particular") if word in said]


def test_what_libraries_log_has_the_same_form(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("on %s", "fire")
    logging.getLogger("sqlalchemy.engine").debug("too much")
    (line,) = events(lines)
    assert (line["event"], line["level"], line["logger"]) == ("on fire", "warning", "uvicorn.error")


def test_a_request_is_told_once_and_without_what_is_searched_for(
    database: Database, database_settings: Settings, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", lines)
    with serving(create_app(database_settings), access_log=False, log_level="info") as url:
        lines.truncate(0)
        lines.seek(0)
        logs.configure(Settings(log_json=True))  # as in earnest, where uvicorn has set up its own before
        assert httpx.get(f"{url}/v1/songs", params={"q": QUERY}).is_success
    told = [line for line in events(lines) if "/v1/songs" in str(line)]
    assert [line["event"] for line in told] == ["request"]
    assert QUERY not in lines.getvalue()


def test_an_error_of_the_database_does_not_tell_what_it_was_given(database: Database) -> None:
    with pytest.raises(SQLAlchemyError) as raised, transaction(database) as session:
        session.execute(text("INSERT INTO songs (id, title) VALUES ('1', :title)"), {"title": "unreleased"})
    assert "unreleased" not in repr(raised.value)
