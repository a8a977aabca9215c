"""What the caller knows, on disk as soon as it knows it: the accepted jobs, the ends it saw, the wounds it gave."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """A file of JSON lines that any thread may add to; an earlier run's lines stay and are read back."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock, self.path = threading.Lock(), path
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in _lines(path)]

    def note(self, **facts: Any) -> None:
        """Add a line; it has left this process when the call returns."""
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            self.lines.append(line)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
