"""The same track gets the same answer, to the last bit, whichever worker is asked and whatever it did before."""

from pathlib import Path

from app.client import Track
from bench import repeat
from bench.chaos.tracks import track


def test_two_workers_and_their_successors_agree_to_the_last_bit(tiny_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "track.wav"
    path.write_bytes(track(1, 2.5))
    tracks = {"plain": Track(path), "told": Track(path, prompt="slow low tune"), "full": Track(path, method="unlearn")}
    found = repeat.measure(tmp_path / "service", tiny_folder, tracks)
    assert found["tracks_that_differ"] == 0
    assert {name: each["workers"] for name, each in found["tracks"].items()} == dict.fromkeys(tracks, 4)
    assert {"model_digest", "index_digest", "code", "torch", "rootnote"} <= found["versions"].keys()
