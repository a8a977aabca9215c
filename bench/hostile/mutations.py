"""Valid files damaged at random, the same way for the same seed: flips, swaps, cuts, splices, extremes, repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.hostile import seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEADER_BYTES = 256
EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80")
Random = np.random.Generator


def flips(data: bytearray, random: Random) -> bytearray:
    """Flip up to 32 bits, half of the time in the header alone."""
    reach = min(len(data), HEADER_BYTES) if random.random() < 0.5 else len(data)
    for place in random.integers(0, reach, random.integers(1, 33)):
        data[place] ^= 1 << int(random.integers(8))
    return data


def swap(data: bytearray, random: Random) -> bytearray:
    """Exchange two blocks."""
    size = int(random.integers(1, max(2, len(data) // 4)))
    one, two = (int(random.integers(0, max(1, len(data) - size))) for _ in range(2))
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]
    return data


def truncate(data: bytearray, random: Random) -> bytearray:
    """Cut the end off, often most of the file."""
    return data[: int(len(data) * random.random() ** 2)]


def splice(data: bytearray, random: Random) -> bytearray:
    """Go on in the middle of another file."""
    others = list(seeds.files().values())
    other = others[random.integers(len(others))]
    return data[: random.integers(0, len(data))] + other[random.integers(0, len(other)) :]


def extreme(data: bytearray, random: Random) -> bytearray:
    """Put the largest, the smallest and the most negative numbers where sizes stand."""
    for place in random.integers(0, min(len(data), HEADER_BYTES), random.integers(1, 5)):
        value = EXTREMES[random.integers(len(EXTREMES))][: int(random.choice([1, 2, 4]))]
        data[place : place + len(value)] = value
    return data


def repeat(data: bytearray, random: Random) -> bytearray:
    """Say a part many times."""
    begin = int(random.integers(0, len(data)))
    end = min(len(data), begin + int(random.integers(1, 64)))
    return data[:end] + data[begin:end] * int(random.integers(1, 200)) + data[end:]


def noise(data: bytearray, random: Random) -> bytearray:
    """Overwrite a stretch with random bytes."""
    begin = int(random.integers(0, len(data)))
    size = min(int(random.integers(1, 400)), len(data) - begin)
    data[begin : begin + size] = random.bytes(size)
    return data


KINDS: tuple[Callable[[bytearray, Random], bytearray], ...] = (flips, swap, truncate, splice, extreme, repeat, noise)


def mutated(count: int, seed: int, kinds: dict[str, bytes] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield so many damaged files with a name that tells format, damage and number; formats take turns."""
    good = list((kinds or seeds.files()).items())
    for number in range(count):
        name, data = good[number % len(good)]
        random = np.random.default_rng([seed, number])
        damage = KINDS[random.integers(len(KINDS))]
        spoilt = bytearray(data)
        for _ in range(random.integers(1, 4)):
            spoilt = damage(spoilt, random) or bytearray(1)
        yield f"{name} {damage.__name__} {number}", bytes(spoilt)
