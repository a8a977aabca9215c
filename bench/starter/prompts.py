"""Prompts that no song was trained under: the words of two captions, mixed place by place."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKGROUND = 64
TRIES = 100


def mixed(captions: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Return `count` different prompts, each of two captions' words; the first do not depend on how many follow.

    Raises ValueError where the captions do not hold so many.
    """
    source, made = random.Random(seed), []  # noqa: S311
    for _ in range(TRIES * count):
        if len(made) == count:
            return made
        pairs = zip(*(c.split() for c in source.sample(list(captions), 2)), strict=True)
        words = [source.choice(pair) for pair in pairs]
        words[0] = "slow" if int(words[-2]) < 90 else "fast" if int(words[-2]) > 130 else "medium"
        prompt = " ".join(words)
        if prompt not in captions and prompt not in made:
            made.append(prompt)
    raise ValueError(f"{count} prompts asked for, {len(made)} found")
