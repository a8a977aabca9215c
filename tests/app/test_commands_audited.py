"""Every command that writes is in the audit log, under its own name; a new command has to say whether it writes."""

from __future__ import annotations

import ast
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from app import cli, indexing
from app.config import Settings
from app.db import engines, reading
from app.models import AuditEntry
from tests.app.world import model_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer

    from tests.app.shell import Shell

ASK_THE_SERVICE = {
    "attribute",
    "wait",
    "history",
    "forget",
    "holders",
    "audit",
    "report",
    "verify",
    "statement",
    "songs import",
    "statements close",
    "statements months",
    "statements list",
    "report-keys list",
}
"""The service writes their entries, in the name of their key."""
ONLY_READ = {"keys list", "tenants used", "webhooks list", "index status", "index verify", "index versions"}
ONLY_FILES = {"generate", "index encode", "backup", "restore"}
"""They write outside of the database; a copy that is put back brings its own log along."""
ARE_THE_SERVICE = {"up", "demo", "sweep", "deliver"}
"""What they run writes entries of its own."""


WRITE = {
    "migrate": "",
    "tenants create": "label-a",
    "tenants allow": "label-a --jobs 3",
    "tenants keep": "label-a --days 3",
    "tenants share": "label-a --external-ids",
    "keys create": "nightly --tenant label-a",
    "keys rotate": "{ID}",
    "keys revoke": "{ID}",
    "models register": "second",
    "index build": "bare --training songs.bin --no-wait",
    "index add": "second --training songs.bin --no-wait",
    "index remove": "second song-0",
    "index merge": "second song-1 --into song-2",
    "index upgrade": "second",
    "index requantise": "second",
    "webhooks create": "http://127.0.0.1:9/hook",
    "webhooks rotate": "{ID}",
    "webhooks enable": "{ID}",
    "webhooks replay": "{ID} --since 2026-01-01",
    "webhooks delete": "{ID}",
    "report-keys rotate": "",
}
"""How each is called, in an order in which it can be; `{ID}`: the last id that was printed."""
CHANGE_A_MODEL = {"migrate", "index remove", "index merge", "index upgrade", "index requantise"}
"""What they write is the model's new registration."""


def commands(group: typer.Typer = cli.app, above: str = "") -> Iterator[str]:
    """The words of every command."""
    for each in group.registered_commands:
        yield above + (each.name or each.callback.__name__)
    for each in group.registered_groups:
        yield from commands(each.typer_instance, f"{above}{each.name} ")


@pytest.fixture
def ready(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of models, one without an index; whoever changes an index gets another one."""
    here = Path.cwd()
    monkeypatch.setenv("ROOTNOTE_MODELS", str(model_folder(here)))
    monkeypatch.setenv("ROOTNOTE_WEBHOOK_ALLOW_PRIVATE", "true")
    model_folder(here, "second", index="e")
    for name in ("second", "bare"):
        (here / name / "pipeline").mkdir(parents=True)
    (here / "bare" / "songs.csv").touch()
    (here / "songs.bin").touch()
    digests = iter("1234")

    def change(module: str, folder: str, *what: str) -> str:
        model_folder(here, Path(folder).name, index=next(digests))
        return " ".join((module, *what))

    monkeypatch.setattr(indexing, "_worker", change)


def entries() -> list[AuditEntry]:
    with closing(engines(Settings())) as database, reading(database) as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


def test_every_command_says_whether_it_writes() -> None:
    known = [*WRITE, *ASK_THE_SERVICE, *ONLY_READ, *ONLY_FILES, *ARE_THE_SERVICE]
    assert sorted(known) == sorted(commands()), "name a new command here; if it writes, add how it is called to `WRITE`"


def test_what_every_command_writes_is_in_the_audit_log(run: Shell, ready: None) -> None:
    ident, told = "", 0
    for command, call in WRITE.items():
        status, out, err = run(*command.split(), *call.format(ID=ident).split())
        assert status == 0, f"{command}: {err}"
        found = entries()
        assert len(found) == told + 1, command
        assert found[told].action == ("models register" if command in CHANGE_A_MODEL else command)
        assert found[told].actor.startswith("command, uid ")
        assert found[told].object_id, command
        told = len(found)
        ident = next(iter(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", out)), ident)


def test_a_model_that_moved_is_in_the_audit_log_and_one_that_stayed_is_not(run: Shell, ready: None) -> None:
    assert [run("migrate")[0] for _ in range(2)] == [0, 0]
    model_folder(Path.cwd() / "elsewhere")
    assert run("models", "register", "elsewhere/starter")[0] == 0
    first, moved = entries()
    assert (moved.action, moved.object_kind, moved.object_id) == ("models register", "models", first.object_id)


def test_no_command_opens_a_transaction_of_its_own() -> None:
    for file in Path(cli.__file__).parent.glob("*.py"):
        taken = {
            name.name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module == "app.db"
            for name in node.names
        }
        assert file.name == "options.py" or "transaction" not in taken, f"{file.name}: see `options.acting`"
