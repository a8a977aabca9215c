"""A database in which a model is registered: for show, or the real tiny one."""

import pytest

from app.catalogue.registry import register_model
from app.config import Settings
from app.db import Database, transaction
from app.models import DEFAULT_TENANT, Model
from tests.app.world import model_folder


@pytest.fixture
def model(database: Database, settings: Settings) -> Model:
    """A registered model whose folder holds nothing that could be loaded."""
    with transaction(database) as session:
        return register_model(session, DEFAULT_TENANT, model_folder(settings.data_dir))
