"""Lengths read from the bytes themselves."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as some

from app.containers import Announced, announced
from tests.app.sounds import Sound, streamed_wav, wav_header, without_length

SOUND = Sound(seconds=3)
ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
LOUD = Sound(seconds=10, rate=44_100, channels=2).encode("MP3")


@pytest.fixture
def of(tmp_path):
    def look(data):
        path = tmp_path / "file"
        path.write_bytes(data)
        return announced(path)

    return look


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_wav_and_aiff_count_frames_in_any_width(of, subtype):
    assert of(SOUND.encode("WAV", subtype)).frames == 66_150
    if subtype != "PCM_U8":
        assert of(SOUND.encode("AIFF", subtype)).frames == 66_150


def test_a_count_is_what_is_announced_not_what_is_there(of):
    assert of(wav_header(8_000, 1, 16_000)).frames == 8_000
    assert of(SOUND.encode("AIFF")[:80]).frames == 66_150


def test_a_writer_that_never_knew_announces_nothing(of):
    assert of(streamed_wav(8_000, bytes(100))) == Announced(library=False)


@pytest.mark.parametrize("before", [b"", ID3], ids=["bare", "tagged"])
@pytest.mark.parametrize("after", [b"", b"TAG" + bytes(125)], ids=["", "tag at the end"])
def test_an_mp3_is_whole_when_its_last_frame_is(of, before, after):
    assert of(before + LOUD + after).whole
    assert not of(before + LOUD[:-50]).whole
    assert not of(before + without_length(LOUD)[:-50]).whole


def test_only_a_counted_mp3_has_a_length(of):
    assert of(LOUD).library
    assert not of(without_length(LOUD)).library


def test_an_ogg_is_whole_when_its_last_page_says_so(of):
    ogg = Sound(seconds=20).encode("OGG", "VORBIS")
    assert of(ogg).whole
    assert not of(ogg[:-1]).whole
    assert not of(ogg[: ogg.rindex(b"OggS")]).whole


@effort(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(some.sampled_from([b"RIFF", b"FORM", b"OggS", b"ID3", b"\xff\xfb", b""]), some.binary(max_size=300))
def test_any_bytes_are_looked_at_without_harm(of, start, rest):
    assert isinstance(of(start + rest), Announced)
