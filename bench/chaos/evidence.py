"""What the journals and the service's own logs show of a storm."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOO_LATE = ("too late: the job had left this worker", "lease lost before the end was written", "lease lost; the job")


def struck(lines: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the faults that hit, by name."""
    return dict(sorted(Counter(line["fault"] for line in lines if "missed" not in line).items()))


def missed(lines: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the faults that found nothing to hit, by name."""
    return dict(sorted(Counter(line["fault"] for line in lines if "missed" in line).items()))


def refused_tokens(logs: Path) -> int:
    """Count how often a worker came to write an end, or to renew a lease, and was told that the job had left it."""
    texts = (log.read_text(encoding="utf-8", errors="replace") for log in logs.glob("worker*.log"))
    return sum(text.count(words) for text in texts for words in TOO_LATE)
