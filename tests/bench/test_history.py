"""The benchmark of the history fills what it says, goes on where it was cut off, and measures from the clock."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import func, select

from app import migrate, words
from app.db import engines, reading
from app.main import create_app
from app.models import Attribution, Influence, Right, Song
from bench.history import client, fill, plans
from bench.history.__main__ import paths
from bench.history.sizes import Sizes, song_id, track_id
from tests.app.here import client_of
from tests.app.live import serving

SMALL = Sizes(songs=300, tracks=400, songs_per_track=5, hot=40)
POSTGRES = pytest.mark.parametrize("empty_database_settings", ["postgres"], indirect=True)


@pytest.fixture
def filled(empty_database_settings, monkeypatch):
    """A database that was filled in three goes, the first two cut off."""
    monkeypatch.setattr(fill, "BLOCK", 100)
    migrate.upgrade(empty_database_settings)
    url = empty_database_settings.database_url.replace("+psycopg", "")
    for cut in (replace(SMALL, songs=200, tracks=0), replace(SMALL, tracks=200, hot=20)):
        with psycopg.connect(url) as connection:
            fill.fill(connection, cut, print)
            connection.execute("DELETE FROM bench_blocks WHERE kind = 'all'")
    with psycopg.connect(url) as connection:
        assert fill.fill(connection, SMALL, print) > 0
    with psycopg.connect(url) as connection:
        assert fill.fill(connection, SMALL, print) == 0
    return empty_database_settings


@POSTGRES
def test_every_row_is_there_once_and_is_what_the_service_would_write(filled):
    with closing(engines(filled)) as db, reading(db) as session:
        counts = [
            session.scalar(select(func.count()).select_from(each)) for each in (Song, Right, Attribution, Influence)
        ]
        assert counts == [300, 600, 400, 2000]
        hot = select(func.count()).select_from(Influence).where(Influence.song_id == song_id(0))
        assert session.scalar(hot) == SMALL.hot
        song = session.get(Song, song_id(7))
        assert song.artist_plain == words.plain(song.artist)
        searched = session.scalar(select(Song.words).where(Song.id == song_id(7)))
        assert sorted(searched) == sorted(words.split(song.title, song.artist, song.key))


@POSTGRES
def test_the_pages_that_are_asked_for_exist_and_the_plans_use_the_index(filled, tmp_path):
    with client_of(create_app(filled)) as api:
        for path in paths(SMALL, 10, 1):
            page = api.get(path)
            assert page.status_code == 200, page.text
        whole = api.get(f"/v1/songs/{song_id(0)}/influences", params={"limit": 200}).json()["items"]
    assert [row["attribution"]["id"] for row in whole] == [track_id(10 * each) for each in reversed(range(40))]
    plans.write(filled, SMALL, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "Limit" in text
    assert text.count("```") == 2 * text.count("\n## ")


@POSTGRES
def test_a_load_is_answered_and_measured(filled):
    with serving(create_app(filled)) as url:
        found = client.run(client.Load(url, paths(SMALL, 40, 1), 100.0))
    assert (found.requests, found.failed) == (40, 0)
    assert 0 < found.p50_ms <= found.p95_ms <= found.p99_ms <= found.max_ms
    assert found.seconds >= 0.39
    assert found.response_bytes > 1000


def test_a_slow_answer_is_counted_from_when_it_was_due():
    """A server that takes one connection at a time: what waits meanwhile is late by its own clock."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for number in range(5):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    time.sleep(0.5 if number == 0 else 0)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        found = client.run(client.Load(f"http://127.0.0.1:{listening.getsockname()[1]}", ["/"] * 5, 50.0))
        thread.join()
    assert found.failed == 0
    assert found.max_ms >= 500
    assert found.p50_ms >= 400
