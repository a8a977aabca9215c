"""Schemathesis asks the running service everything that its own description allows, and much that it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.access import keys
from app.access.scopes import Scope
from app.attributions import service
from app.attributions.intake import Intake, submit
from app.attributions.outcome import ErrorInfo
from app.catalogue.registry import register_model
from app.db import now, transaction
from app.errors import TooShort
from app.main import create_app
from app.models import DEFAULT_TENANT, Worker
from app.storage import Storage
from tests.app.live import serving
from tests.app.sounds import Sound
from tests.app.world import complete, fail, model_folder

if TYPE_CHECKING:
    from app.config import Settings
    from app.db import Database
    from tests.services import Valkey

EXAMPLES = 20
LIMIT_SECONDS = 280
ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")


def lived_in(database: Database, settings: Settings) -> str:
    """Fill the service with what every list can show; returns the secret of a key that may do everything."""
    with transaction(database) as session:
        model = register_model(session, DEFAULT_TENANT, model_folder(settings.data_dir))
        ahead = now(session) + timedelta(hours=1)  # a worker that is seen for as long as this takes
        session.add(Worker(hostname="here", pid=1, device="cpu", model_id=model.id, seen_at=ahead))
        _, secret = keys.create(session, keys.NewKey(DEFAULT_TENANT, "schemathesis", frozenset({Scope.ADMIN})))
    intake = Intake(database, Storage.open(settings.storage_url), settings)
    tracks = (Sound(seconds=seconds).encode() for seconds in (1.0, 1.5, 2.0))
    request = service.NewAttribution(external_id="ours-1", prompt="slow low organ")
    answered, refused, _ = (submit(intake, [each], tenant_id=DEFAULT_TENANT, request=request).id for each in tracks)
    complete(database, settings, answered)
    fail(database, settings, refused, ErrorInfo.of(TooShort()))
    return secret


@pytest.mark.parametrize("database_settings", ["postgres"], indirect=True)
def test_the_service_keeps_its_own_description(database_settings: Settings, database: Database, valkey: Valkey) -> None:
    given = {"auth": "required", "broker_url": valkey.url}
    settings = database_settings.model_copy(update=given)
    secret = lived_in(database, settings)
    with serving(create_app(settings)) as url:
        told = subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG),
                *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {secret}"),
                *("--checks", "all", "--max-examples", str(EXAMPLES), "--no-color"),
                *("--generation-deterministic", "--request-timeout", "30", "--continue-on-failure"),
            ],
            env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.app.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
            cwd=settings.data_dir,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
    (settings.data_dir / "schemathesis.txt").write_text(told.stdout)
    assert told.returncode == 0, told.stdout[-20_000:] + told.stderr[-2_000:]
