"""A tiny registered model, trained once a session; tests that write work on a copy."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from worker.engine import Engine


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny registered model: pipeline/, songs.csv, prompts.json, index/. Not to be written to."""
    from bench import tiny  # torch stays out of the tests that do not need it

    return tiny.make(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def own_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny registered model that a test may spoil."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


@pytest.fixture(scope="session")
def tiny_engine(tiny_folder: Path) -> Engine:
    """The engine of the tiny registered model, on the CPU."""
    from worker.engine import Engine

    return Engine.load(tiny_folder, "cpu")
