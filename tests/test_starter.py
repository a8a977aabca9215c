"""The starter as it ships: small, whole, without audio, and it finds the song that a track was asked for by."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from worker.diffusion.layout import digest
from worker.engine import Engine, Query
from worker.manifest import Manifest

STARTER = Path(__file__).parent.parent / "starter"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def songs() -> list[dict[str, str]]:
    with (STARTER / "songs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def prompts() -> dict[str, object]:
    return dict(json.loads((STARTER / "prompts.json").read_text()))


def test_it_is_small_and_holds_no_audio() -> None:
    files = [path for path in STARTER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30 * MEGABYTE
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".csv", ".md"}


def test_its_index_is_of_its_pipeline_and_its_songs(songs) -> None:
    manifest = Manifest.read(STARTER / "index")
    assert manifest.model_digest == digest(STARTER / "pipeline")
    assert [song.key for song in manifest.songs] == [row["key"] for row in songs]
    assert all(song.segments for song in manifest.songs)


def test_it_was_trained_on_real_songs_of_many_artists(songs) -> None:
    assert len(songs) == 243
    assert len({row["artist"] for row in songs}) >= 20
    assert all(row["title"] and row["artist"] and row["licence"] for row in songs)


def test_captions_hold_no_artist_and_no_title(songs) -> None:
    spoken = {word for row in songs for word in row["caption"].lower().split()}
    named = {row[column].lower() for row in songs for column in ("artist", "title")}
    assert not spoken & named


def test_background_prompts_are_no_songs_caption(songs, prompts) -> None:
    background = prompts["background"]
    assert len(set(background)) == len(background) >= 32
    assert not set(background) & {row["caption"] for row in songs}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(STARTER, "cpu")


def test_encoding_undoes_decoding_nearly(engine) -> None:
    model = engine.model
    real = engine.index.shard.latents.floats(torch.arange(0, 729, 60))
    again = model.latents(model.pipeline.vae.decode(real).sample)
    assert torch.cosine_similarity(real.flatten(1), again.flatten(1)).min() > 0.95


def test_a_track_under_a_songs_caption_is_traced_to_the_song(engine, songs, prompts) -> None:
    prompt = prompts["demo"]
    track = engine.model.generate(prompt, seed=2)
    ranking = engine.attribute(Query(track, engine.model.form.rate, prompt), lambda _stage, _done: None)
    named = [row["key"] for row in songs if row["caption"] == prompt]
    assert ranking.influences[0].key in named
    assert ranking.influences[0].percentile == 100.0
    assert sum(row.share for row in ranking.influences) + ranking.unattributed == pytest.approx(1.0)
