"""The figures of API processes that serve side by side: whichever is asked answers for all of them.

They share a folder, named by PROMETHEUS_MULTIPROC_DIR before they start, in which each keeps what it has counted; what
one that died had counted stays there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.db import utcnow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_BEGAN = "began"


def shared() -> Path | None:
    """Return the folder that this process shares with others, made where there is none; None where it is alone."""
    given = os.environ.get(FOLDER)
    if given is None:
        return None
    folder = Path(given)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def began() -> datetime:
    """Return when the first of these processes began to count, which for all is when they did."""
    folder = shared()
    if folder is None:
        return utcnow()
    with suppress(FileExistsError), (folder / _BEGAN).open("x"):
        pass
    return datetime.fromtimestamp((folder / _BEGAN).stat().st_mtime, UTC)


class Together(Collector):
    """What the processes of a folder have counted, of the figures with these names."""

    def __init__(self, folder: Path, names: frozenset[str]) -> None:
        self._folder, self._names = folder, names

    def collect(self) -> Iterable[Metric]:
        """Return the sums in Prometheus' own form."""
        counted = MultiProcessCollector(None, str(self._folder)).collect()  # type: ignore[no-untyped-call]
        return [each for each in counted if each.name in self._names]
