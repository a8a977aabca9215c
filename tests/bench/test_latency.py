"""The latency command measures a service that really runs, and says on what it ran."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from app import migrate
from app.config import Settings
from app.db import engines, transaction
from app.main import create_app
from app.models import DEFAULT_TENANT, Attribution, Influence, Model, Song, Status
from bench import hardware, latency

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def filled(data_dir: Path) -> Settings:
    """A migrated database with one model, one song and one finished attribution."""
    settings = Settings(data_dir=data_dir)
    migrate.upgrade(settings)
    model = Model(
        tenant_id=DEFAULT_TENANT,
        name="starter",
        folder="starter",
        model_digest="a" * 64,
        index_digest="b" * 64,
        segment_seconds=10.0,
        segments=3,
        songs=1,
    )
    song = Song(tenant_id=DEFAULT_TENANT, key="k", title="Title", artist="Artist")
    with closing(engines(settings)) as db, transaction(db) as session:
        session.add_all([model, song])
        session.flush()
        attribution = Attribution(
            tenant_id=DEFAULT_TENANT,
            model_id=model.id,
            status=Status.SUCCEEDED,
            method="index",
            top_k=10,
            audio_key="k",
            audio_sha256="c" * 64,
            audio_bytes=1,
            unattributed=0.5,
            expires_at=MOMENT + timedelta(days=1),
        )
        session.add(attribution)
        session.flush()
        numbers = {"rank": 1, "score": 1.0, "share": 0.5, "percentile": 99.0}
        owners = {"tenant_id": DEFAULT_TENANT, "model_id": model.id}
        session.add(Influence(attribution_id=attribution.id, song_id=song.id, **owners, **numbers))
    return settings


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Where a service with one result listens."""
    server = uvicorn.Server(uvicorn.Config(create_app(filled(tmp_path)), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_every_reading_call_is_measured(url: str, tmp_path: Path) -> None:
    path = tmp_path / "results" / "latency.json"
    assert latency.main(["--url", url, "--requests", "5", "--warmup", "1", "--out", str(path)]) == 0
    written = json.loads(path.read_text())
    assert set(written["calls"]) == {"result", "influences", "history", "history_series"}
    for call in written["calls"].values():
        assert call["requests"] == 5
        assert 0 < call["median_ms"] <= call["p95_ms"] <= call["max_ms"]
        assert call["response_bytes"] > 0
    assert written["sizes"] == {"attributions": 1, "songs": 1, "models": 1, "history_rows": 1}
    assert {"cpu", "cores", "memory_gib", "commit", "python", "torch", "date"} <= set(written["hardware"])
    assert [each.name for each in path.parent.iterdir()] == ["latency.json"]


def test_a_service_that_is_not_there_ends_it_with_a_word(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Connection refused"):
        latency.main(["--url", "http://127.0.0.1:9", "--out", str(tmp_path / "x.json")])
    assert not list(tmp_path.iterdir())


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], percent: int) -> None:
    found = latency.percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)
    assert latency.percentile(values, 100) == max(values)


def test_the_facts_are_of_this_machine() -> None:
    facts = hardware.facts()
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert facts["cpu"]
    assert json.loads(json.dumps(facts)) == facts
