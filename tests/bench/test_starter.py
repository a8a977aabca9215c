"""What decides which songs the starter is made of, and how they are described."""

from __future__ import annotations

import math
from collections import Counter

import torch

from bench.starter.assemble import prompts
from bench.starter.captions import RATE, captions, facts
from bench.starter.songs import catalogue, training_songs


def beats(frequencies: tuple[float, ...], bpm: float, loudness: float) -> torch.Tensor:
    """Twenty seconds of a chord struck at every beat."""
    time = torch.arange(20 * RATE) / RATE
    tone = sum(torch.sin(2 * math.pi * f * time) for f in frequencies)
    return loudness * tone * torch.exp(-(time % (60 / bpm)) * 12)


def test_the_choice_of_songs_is_fixed_varied_and_without_remakes() -> None:
    songs = training_songs()
    assert songs == training_songs()
    assert len({song.key for song in songs}) == len(songs) == 60
    assert max(Counter((song.package, song.artist) for song in songs).values()) <= 2
    assert not [song for song in songs if "enhanced" in song.title.lower()]
    assert set(songs) <= set(catalogue())


def test_facts_are_those_of_the_sound() -> None:
    measured = facts(beats((220.0, 277.18, 329.63), 120, 0.1))
    assert abs(measured.tempo - 120) < 4
    assert measured.key == "A major"
    quieter = facts(beats((220.0, 277.18, 329.63), 120, 0.05))
    assert round(measured.level_db - quieter.level_db) == 6


def test_captions_compare_the_songs_with_each_other() -> None:
    low, high = (220.0, 261.63, 329.63), (1760.0, 2093.0, 2637.0)
    told = captions([facts(beats(low, 80, 0.02)), facts(beats(low, 120, 0.1)), facts(beats(high, 150, 0.2))])
    assert [caption.split()[0] for caption in told] == ["slow", "medium", "fast"]
    assert [caption.split()[2] for caption in told] == ["quiet", "moderate", "loud"]
    assert told[2].split()[1] == "bright"


def test_prompts_mix_captions_and_repeat_none() -> None:
    known = [f"medium {b} {v} steady music in {k} about 120 bpm" for b in ("dark", "bright") for v in ("quiet", "loud")
             for k in ("A minor", "C major")][:-2]  # fmt: skip
    made = prompts(known, 2)
    assert len(set(made)) == 2
    assert not set(made) & set(known)
