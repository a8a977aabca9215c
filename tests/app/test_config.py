"""Settings: the defaults hang together, the environment is read and checked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings


def test_the_defaults_all_lie_in_the_data_folder(tmp_path):
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/rootnote.db"
    assert settings.broker_url == f"redis+socket://{tmp_path}/valkey.sock"
    assert settings.storage_url == f"file://{tmp_path}/objects"


def test_the_environment_is_read_and_empty_values_mean_the_default(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOTNOTE_DATA_DIR", "here")
    monkeypatch.setenv("ROOTNOTE_DATABASE_URL", "")
    monkeypatch.setenv("ROOTNOTE_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("ROOTNOTE_MODELS", os.pathsep.join(["one", "/two"]))
    settings = Settings()
    assert settings.data_dir == tmp_path / "here"
    assert settings.database_url == f"sqlite:///{tmp_path}/here/rootnote.db"
    assert settings.max_attempts == 5
    assert settings.models == (Path("one"), Path("/two"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgres_is_spoken_to_through_psycopg(scheme):
    assert Settings(database_url=f"{scheme}://u:p@h/d").database_url == "postgresql+psycopg://u:p@h/d"


@pytest.mark.parametrize(
    "wrong",
    [
        {"database_url": "mysql://h/d"},
        {"lease_seconds": 5, "heartbeat_seconds": 4},
        {"min_seconds": 700},
        {"min_rate": 200_000},
        {"max_attempts": 0},
        {"port": 70_000},
    ],
)
def test_what_cannot_work_is_refused(wrong):
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_settings_do_not_change(settings):
    with pytest.raises(ValidationError):
        settings.port = 1


def test_the_example_file_names_every_setting_with_its_default():
    lines = (Path(__file__).parents[2] / ".env.example").read_text().splitlines()
    written = dict(line[1:].split("=", 1) for line in lines if line.startswith("#ROOTNOTE_"))
    assert {name.removeprefix("ROOTNOTE_").lower() for name in written} == set(Settings.model_fields)
    numbers = {name: value for name, value in written.items() if value.isdigit()}
    for name, value in numbers.items():
        assert float(value) == Settings.model_fields[name.removeprefix("ROOTNOTE_").lower()].default
