"""Every step of the schema, up and down, with a row in every table, on both databases."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app import migrate
from app.db import engines
from tests.app.filling import counts, fill

if TYPE_CHECKING:
    from app.config import Settings

VERSIONS = Path(migrate.__file__).parents[1] / "migrations" / "versions"
STEPS = sorted(path.name[:4] for path in VERSIONS.glob("0*.py"))
BOTH = pytest.mark.parametrize("empty_database_settings", ["sqlite", "postgres"], indirect=True)


def lived_in(settings: Settings) -> dict[str, int]:
    """Fill what is empty; the rows of each table."""
    with closing(engines(settings)) as db:
        with db.write.begin() as connection:
            fill(connection)
        with db.read.connect() as connection:
            return counts(connection)


def rows(settings: Settings) -> dict[str, int]:
    with closing(engines(settings)) as db, db.read.connect() as connection:
        return counts(connection)


@BOTH
def test_no_step_loses_a_row(empty_database_settings: Settings) -> None:
    settings = empty_database_settings
    for step in STEPS:
        before = rows(settings)
        migrate.upgrade(settings, step)
        after = rows(settings)
        assert {name: count for name, count in before.items() if name in after} == {
            name: count for name, count in after.items() if name in before
        }, step
        assert all(lived_in(settings).values()), step
    for step in [*reversed(STEPS[:-1]), "base"]:
        before = rows(settings)
        migrate.downgrade(settings, step)
        after = rows(settings)
        assert set(after) <= set(before), step
        assert {name: before[name] for name in after} == after, step
    assert rows(settings) == {}
