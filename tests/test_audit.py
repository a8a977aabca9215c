"""The audit passes only what was looked up and has no known hole."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN = {"name": "one", "version": "1", "vulns": []}
HOLED = {"name": "two", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "three", "skip_reason": "Dependency not found on PyPI"}
OURS = {"name": "rootnote", "skip_reason": "distribution marked as editable"}


def test_what_was_looked_up_and_is_sound_passes(audit):
    assert audit.verdict({"dependencies": [CLEAN, OURS]}) == []


def test_a_hole_and_a_package_that_was_passed_over_fail(audit):
    assert audit.verdict({"dependencies": [CLEAN, HOLED, SKIPPED, OURS]}) == [
        "three: not checked: Dependency not found on PyPI",
        "two 1: CVE-1, fixed in 2",
    ]


@pytest.mark.parametrize("report", [{}, {"dependencies": []}, {"dependencies": [OURS]}])
def test_a_report_about_nothing_fails(audit, report):
    assert audit.verdict(report) == ["nothing was audited"]


def test_without_a_report_nothing_passes(tmp_path):
    broken = tmp_path / "pip-audit"
    broken.write_text("#!/bin/sh\necho no network >&2\nexit 0\n")
    broken.chmod(0o755)
    python = tmp_path / "python"
    code = f"import runpy, sys; sys.executable = {str(python)!r}; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 2
    assert "nothing was checked" in told.stderr
