"""The HTTP application over a migrated database, with one registered model and no broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.access.scopes import TENANT
from app.catalogue.registry import register_model
from app.config import Settings
from app.db import Database, transaction
from app.deps import Caller, caller
from app.main import create_app
from app.models import DEFAULT_TENANT, Model, Tenant
from tests.app.here import client_of
from tests.app.shell import Captured, Shell
from tests.app.world import model_folder


@pytest.fixture
def app(database_settings: Settings) -> FastAPI:
    return create_app(database_settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with client_of(app) as client:
        yield client


@pytest.fixture
def model(database: Database, settings: Settings) -> Model:
    with transaction(database) as session:
        return register_model(session, DEFAULT_TENANT, model_folder(settings.data_dir))


@pytest.fixture
def stranger(database_settings: Settings, database: Database) -> Iterator[TestClient]:
    """Another tenant, at the same database."""
    with transaction(database) as session:
        session.merge(Tenant(id="stranger", name="Stranger"))
    app = create_app(database_settings)
    app.dependency_overrides[caller] = lambda: Caller("stranger", TENANT)
    with client_of(app) as client:
        yield client


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path) -> Shell:
    """The command line, in a folder of this test."""
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capsys)
