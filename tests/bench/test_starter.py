"""What decides which songs the starter is made of, and how they are described."""

from __future__ import annotations

import math

import pytest
import torch

from bench.starter.captions import RATE, captions, facts
from bench.starter.prompts import mixed
from bench.starter.songs import HELD_OUT, SHORTEST_S, catalogue, split


def beats(frequencies: tuple[float, ...], bpm: float, loudness: float) -> torch.Tensor:
    """Twenty seconds of a chord struck at every beat."""
    time = torch.arange(20 * RATE) / RATE
    tone = sum(torch.sin(2 * math.pi * f * time) for f in frequencies)
    return loudness * tone * torch.exp(-(time % (60 / bpm)) * 12)


def test_the_catalogue_is_split_for_ever_with_half_of_the_held_out_by_artists_never_trained_on() -> None:
    songs = split()
    assert songs == split()
    every = [*songs.trained, *songs.held_out]
    assert len({song.key for song in every}) == len(every)
    assert set(every) <= set(catalogue())
    assert len(songs.held_out) == HELD_OUT
    assert not songs.new_artists & {song.artist for song in songs.trained}
    assert sum(song.artist in songs.new_artists for song in songs.held_out) == HELD_OUT // 2
    assert not [song for song in songs.held_out if song.related]
    assert min(song.duration_s for song in songs.trained) >= SHORTEST_S


def test_facts_are_those_of_the_sound() -> None:
    measured = facts(beats((220.0, 277.18, 329.63), 120, 0.1))
    assert abs(measured.tempo - 120) < 4
    assert measured.key == "A major"
    quieter = facts(beats((220.0, 277.18, 329.63), 120, 0.05))
    assert round(measured.level_db - quieter.level_db) == 6


def test_captions_compare_the_songs_with_each_other() -> None:
    low, high = (220.0, 261.63, 329.63), (1760.0, 2093.0, 2637.0)
    known = [facts(beats(low, 80, 0.02)), facts(beats(low, 120, 0.1)), facts(beats(high, 150, 0.2))]
    told = captions(known, known)
    assert [caption.split()[0] for caption in told] == ["slow", "medium", "fast"]
    assert [caption.split()[2] for caption in told] == ["quiet", "moderate", "loud"]
    assert told[2].split()[1] == "bright"


def test_prompts_mix_captions_and_repeat_none() -> None:
    known = [f"medium {b} {v} steady music in {k} about 120 bpm" for b in ("dark", "bright") for v in ("quiet", "loud")
             for k in ("A minor", "C major")][:-2]  # fmt: skip
    made = mixed(known, 2)
    assert len(set(made)) == 2
    assert not set(made) & set(known)
    assert mixed(known, 1) == made[:1]
    with pytest.raises(ValueError, match="found"):
        mixed(known[:1] * 2, 1)


def test_a_caption_of_a_new_song_is_measured_by_the_songs_trained_on() -> None:
    low = (220.0, 261.63, 329.63)
    known = [facts(beats(low, 100, level)) for level in (0.02, 0.05, 0.1)]
    assert captions([facts(beats(low, 100, 0.5))], known)[0].split()[2] == "loud"
