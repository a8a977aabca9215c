"""Every rule asks for figures that exist, and has a page in the runbook that says what to do."""

import re
from pathlib import Path

import pytest
import yaml

from app.attributions.outcome import ErrorInfo
from app.db import transaction
from app.errors import TooShort
from app.models import Worker
from tests.app.sounds import Sound
from tests.app.world import complete, fail

DOCS = Path(__file__).parents[2] / "docs"
RULES = [rule for group in yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
RUNBOOK = (DOCS / "runbook.md").read_text()
SERIES = re.compile(r"\brootnote_\w+")


@pytest.fixture
def exposed(client, database, settings, model):
    """The names and labels of every series of a service that has lived a little."""
    with transaction(database) as session:
        session.add(Worker(hostname="here", pid=1, device="cpu", model_id=model.id))
    client.get("/metrics")
    idents = [client.post("/v1/attributions", files={"audio": ("a", Sound().encode())}).json()["id"] for _ in range(3)]
    complete(database, settings, idents[0])
    fail(database, settings, idents[1], ErrorInfo.of(TooShort()))
    client.get("/v1/songs/none")
    found = {}
    for name, labels in re.findall(r"^(rootnote_\w+)(?:\{(.*)\})? ", client.get("/metrics").text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_has_the_form_of_one(rule):
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"].endswith(".")
    for pair in ("()", "{}", "[]"):
        assert rule["expr"].count(pair[0]) == rule["expr"].count(pair[1])


def test_rules_ask_for_series_and_labels_that_exist(exposed):
    for rule in RULES:
        assert SERIES.findall(rule["expr"]), rule["alert"]
        for name, labels in re.findall(r"(rootnote_\w+)(?:\{(.*?)\})?", rule["expr"]):
            assert name in exposed, (rule["alert"], name)
            assert set(re.findall(r"(\w+)(?:=|!)", re.sub(r'"[^"]*"', "", labels))) <= exposed[name]
        grouped = {word for words in re.findall(r"(?:by|on) \(([\w, ]+)\)", rule["expr"]) for word in words.split(", ")}
        known = set().union(*(exposed[name] for name in SERIES.findall(rule["expr"])))
        assert grouped <= known, rule["alert"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_rule_has_its_page(rule):
    assert f"\n## {rule['alert']}\n" in RUNBOOK


def test_every_page_has_its_rule():
    assert set(re.findall(r"^## (Rootnote\w+)$", RUNBOOK, re.MULTILINE)) == {rule["alert"] for rule in RULES}


def test_the_runbook_names_series_settings_and_commands_that_exist(exposed):
    names = {name.split("[")[0] for name in SERIES.findall(RUNBOOK)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed}
    assert names <= families | set(exposed)
