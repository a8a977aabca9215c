"""What the container images promise: the API without torch, nobody runs as root, no password of ours in the files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
COMPOSE = Path(sys.executable).parent / "docker-compose"
OURS = {"migrate", "api", "sweeper", "sender", "worker", "builder", "worker-gpu"}


def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile, by the stage's name; continued lines are joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in (line.strip() for line in text.splitlines()):
        if start := re.match(r"FROM \S+ AS (\S+)", line):
            found[start[1]] = []
        if found and line and not line.startswith("#"):
            found[list(found)[-1]].append(line)
    return found


def behind(target: str) -> set[str]:
    """The stages that an image is made from: what it starts from and what it copies from, all the way down."""
    known = stages()
    if target not in known:
        return set()
    sources = [word for line in known[target] for word in re.findall(r"^FROM (\S+)|--from=(\S+)", line)]
    return {target}.union(*(behind(name) for pair in sources for name in pair if name))


def closure(requirement: Requirement, seen: set[tuple[str, str]]) -> None:
    """Collect in `seen` what installing `requirement` brings along, going by the metadata of what is installed."""
    for extra in requirement.extras or {""}:
        if (requirement.name, extra) in seen:
            continue
        seen.add((requirement.name, extra))
        try:
            lines = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        for each in map(Requirement, lines):
            if each.marker is None or each.marker.evaluate({"extra": extra}) or each.marker.evaluate({"extra": ""}):
                closure(each, seen)


def compose(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMPOSE, "--env-file", os.devnull, "--profile", "gpu", "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def packages(requirement: str) -> set[str]:
    seen: set[tuple[str, str]] = set()
    closure(Requirement(requirement), seen)
    return {name.lower() for name, _ in seen}


def test_the_api_image_is_made_without_torch() -> None:
    parts = behind("api")
    lines = [line for name in parts for line in stages()[name]]
    assert {"api", "base"} < parts
    assert not parts & {"worker", "worker-venv"}
    assert not [line for line in lines if "torch" in line.lower() or "[worker]" in line]
    assert any(line.startswith("COPY app") for line in lines)
    assert not [line for line in lines if line.startswith("COPY worker")]


def test_what_the_api_installs_needs_no_torch() -> None:
    assert "torch" in packages("rootnote[worker]")
    assert not packages("rootnote") & {"torch", "torchaudio", "diffusers", "transformers"}


@pytest.mark.parametrize("target", ["api", "worker"])
def test_images_run_as_a_numbered_user(target: str) -> None:
    users = [line.split()[1] for line in stages()[target] if line.startswith("USER ")]
    assert users
    assert all(user.isdigit() and int(user) > 0 for user in users)


def test_our_services_write_only_where_they_should() -> None:
    answer = compose({"POSTGRES_PASSWORD": "secret"})
    assert answer.returncode == 0, answer.stderr
    services = json.loads(answer.stdout)["services"]
    assert set(services) == OURS | {"postgres", "valkey"}
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert {each["target"] for each in services[name]["volumes"] if not each.get("read_only")} == {"/data"}


def test_every_image_is_of_a_named_version() -> None:
    ours = {"rootnote-api", "rootnote-worker"}
    services = json.loads(compose({"POSTGRES_PASSWORD": "secret"}).stdout)["services"].values()
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    outside = {name for name in bases if name not in stages()} | {each["image"] for each in services} - ours
    assert len(outside) == 3
    for name in outside:
        assert re.search(r":\d", name), name


def test_no_secret_is_baked_in() -> None:
    lines = [line for each in stages().values() for line in each]
    assert not [line for line in lines if re.search(r"(PASSWORD|SECRET|TOKEN|_KEY)", line)]
    copied = {word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]}
    assert copied <= {"pyproject.toml", "README.md", "LICENSE", ".ci/constraints.txt", "app", "worker", "migrations"}


def test_nothing_of_ours_gains_rights_and_what_serves_says_whether_it_lives() -> None:
    services = json.loads(compose({"POSTGRES_PASSWORD": "secret"}).stdout)["services"]
    for name in OURS:
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in services[name]
    checked = {name for name in services if "test" in services[name].get("healthcheck", {})}
    assert {"postgres", "valkey"} <= checked
    assert all("HEALTHCHECK" in " ".join(stages()[target]) for target in ("api", "worker"))


def test_there_is_no_default_password() -> None:
    answer = compose({})
    assert answer.returncode != 0
    assert "POSTGRES_PASSWORD" in answer.stderr
