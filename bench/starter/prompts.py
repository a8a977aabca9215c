"""Prompts that no song was trained under: the words of two captions, mixed place by place."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKGROUND = 64


def mixed(captions: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Return `count` different prompts, each of two captions' words; the first do not depend on how many follow."""
    source, made = random.Random(seed), []  # noqa: S311
    while len(made) < count:
        pairs = zip(*(c.split() for c in source.sample(list(captions), 2)), strict=True)
        words = [source.choice(pair) for pair in pairs]
        words[0] = "slow" if int(words[-2]) < 90 else "fast" if int(words[-2]) > 130 else "medium"
        prompt = " ".join(words)
        if prompt not in captions and prompt not in made:
            made.append(prompt)
    return made
