"""The command line, run in this process."""

import sys

import pytest

from app import cli

Captured = pytest.CaptureFixture[str]


class Shell:
    """Runs `rootnote` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Its exit status, what it printed, and what it printed as errors, all white space as single blanks."""
        self._monkeypatch.setattr(sys, "argv", ["rootnote", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), " ".join(out.split()), " ".join(err.split())
