"""How recordings are packed for the tagger and its answers unpacked; the tagger itself is not needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import soundfile
import torch

from bench.faithfulness.tagger import (
    PATCH,
    PATCHES,
    PERIOD,
    STEP,
    TAGGER_HOP,
    WINDOW,
    Recordings,
    fitted,
    packed,
    sounds,
    twin,
    unpacked,
    windows_of,
)
from bench.starter.captions import RATE
from bench.starter.songs import Song

if TYPE_CHECKING:
    from pathlib import Path

LENGTH = round(10.24 * RATE)


def patches(recording: torch.Tensor) -> torch.Tensor:
    """The tagger's patches: PATCH frames every STEP frames while they last, frames centred on multiples of the hop."""
    frames = torch.cat([recording.unfold(0, TAGGER_HOP, TAGGER_HOP).mean(1), torch.zeros(1)])
    return frames.unfold(0, PATCH, STEP)[: len(range(0, len(frames) - PATCH + 1, STEP))]


@pytest.mark.parametrize("count", [1, 3, 12])
def test_every_window_gets_its_own_patches_from_end_to_end(count: int) -> None:
    levels = torch.arange(1.0, count + 1)
    cut = patches(packed(levels[:, None].expand(-1, WINDOW * TAGGER_HOP)))
    found = unpacked(cut, [count])
    assert torch.equal(found, levels[:, None].expand(-1, PATCH))
    assert (PATCHES - 1) * STEP + PATCH == WINDOW
    assert len(packed(torch.zeros(count, WINDOW * TAGGER_HOP))) == (count * PERIOD + PATCH - 2) * TAGGER_HOP


def test_missing_patches_and_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="9 patches"):
        unpacked(torch.zeros(9, 2), [1, 1])
    with pytest.raises(ValueError, match="not finite"):
        unpacked(torch.full((5, 2), float("nan")), [1])


def test_windows_are_cut_or_padded_to_the_models_length() -> None:
    made = fitted([torch.ones(LENGTH + 5), torch.ones(7)])
    assert made.shape == (2, LENGTH)
    assert made.sum(1).tolist() == [LENGTH, 7]


def song(folder: Path) -> Song:
    """A held-out song of 40 s whose level rises, on disk below `folder`."""
    held_out = Song("package", "song.wav", "Song", "Artist", "CC0-1.0", 40.0)
    path = held_out.file(folder)
    path.parent.mkdir(parents=True)
    soundfile.write(path, torch.linspace(0, 1, 40 * RATE).numpy(), RATE, "FLOAT")
    return held_out


def recordings(folder: Path) -> Recordings:
    (folder / "audio").mkdir()
    held_out = song(folder / "songs")
    return Recordings(folder / "audio", folder / "songs", {held_out.key: held_out})


def test_a_held_out_window_without_a_file_is_cut_from_its_song(tmp_path: Path) -> None:
    known = recordings(tmp_path)
    row = {"id": "package-song-2-null", "song": "package-song"}
    window = known.window(row)
    assert window.shape == (LENGTH,)
    start = 40 * RATE
    begins = round(float(window[0]) * (start - 1))
    first = round(float(windows_of(known.held_out["package-song"], known.songs)[0, 0]) * (start - 1))
    assert abs(begins - first - 2 * LENGTH) <= 2


def test_both_conditions_share_a_file(tmp_path: Path) -> None:
    known = recordings(tmp_path)
    soundfile.write(known.audio / "package-song-0-caption.wav", torch.full((50,), 0.5).numpy(), RATE, "FLOAT")
    for condition in ("caption", "null"):
        assert known.window({"id": f"package-song-0-{condition}", "song": "package-song"}).tolist() == [0.5] * 50
    assert twin("generated-001") == "generated-001"


def test_a_generated_track_must_be_there_at_the_models_rate(tmp_path: Path) -> None:
    known = recordings(tmp_path)
    row = {"id": "generated-000", "song": None}
    with pytest.raises(FileNotFoundError, match=r"generated-000\.wav"):
        known.window(row)
    soundfile.write(known.audio / "generated-000.wav", torch.zeros(50).numpy(), 8000)
    with pytest.raises(ValueError, match="8000"):
        known.window(row)


def test_queries_keep_their_order_and_null_rows_repeat(tmp_path: Path) -> None:
    known = recordings(tmp_path)
    levels = {"generated-000": 0.25, "package-song-0-caption": 0.5, "package-song-2-caption": 0.75}
    for name, level in levels.items():
        soundfile.write(known.audio / f"{name}.wav", torch.full((LENGTH,), level).numpy(), RATE, "FLOAT")
    ids = [*levels, "package-song-0-null", "package-song-2-null"]
    rows = [{"id": name, "song": None if "generated" in name else "package-song"} for name in ids]
    (tmp_path / "queries.json").write_text(json.dumps(rows))
    windows, place = sounds(tmp_path, known)
    assert len(windows) == 3
    assert windows[place].mean(1).tolist() == [0.25, 0.5, 0.75, 0.5, 0.75]
