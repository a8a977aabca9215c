"""The documents name things that exist: functions, files, commands."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from app.config import Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SCIENCE = "worker.attribution"


def functions() -> list[str]:
    """What the second column of the method's tables names in backticks, by its full name."""
    rows = [line for line in (ROOT / "docs" / "method.md").read_text().splitlines() if line.startswith("| ")]
    names = [name for row in rows for name in re.findall(r"`([\w.]+)`", row.split("|")[2])]
    return sorted({name if name.startswith("worker.") else f"{SCIENCE}.{name}" for name in names if "." in name})


def resolve(name: str) -> object:
    """The object of a dotted name; raises where nothing is called so."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_the_method_page_names_functions() -> None:
    assert len(functions()) > 20


@pytest.mark.parametrize("name", functions())
def test_every_function_of_the_method_page_exists(name: str) -> None:
    assert callable(resolve(name)) or isinstance(resolve(name), property | str)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    targets = [link for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()) if "://" not in link]
    missing = [link for link in targets if not (document.parent / link).exists()]
    assert not missing


def test_the_decisions_are_one_page_with_the_same_parts() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Alternatives"]
        assert len(text.splitlines()) <= 60


def test_every_target_of_the_makefile_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE))
    told = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert phony == told


def test_the_example_environment_lists_every_setting_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text()
    told = dict(re.findall(r"^#?ROOTNOTE_(\w+)=(.*)$", example, re.MULTILINE))
    told.pop("PUBLISHED_PORT")  # of docker-compose.yml alone
    assert set(told) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if type(field.default) in (int, float):
            assert float(told[name.upper()]) == field.default
