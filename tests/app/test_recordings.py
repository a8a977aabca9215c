"""Recordings over HTTP: the bytes as they were sent, any one range of them, and their waveform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.recordings import ranges
from app.recordings.ranges import RangeNotSatisfiable
from app.recordings.waveforms import POINTS
from tests.app.sounds import Sound, encode
from tests.app.test_attributions_api import TRACK, posted, slug
from tests.app.world import objects

KINDS = {"WAV": "audio/wav", "FLAC": "audio/flac", "MP3": "audio/mpeg", "OGG": "audio/ogg", "AIFF": "audio/aiff"}
NOT_ONE = ["bytes=9-5", "bytes=-", "pages=1-2", "bytes=0-1,5-6", "bytes=x", f"bytes={'9' * 60}-"]


@pytest.fixture
def track(client, model):
    """The address of an attribution."""
    return f"/v1/attributions/{posted(client)}"


@pytest.fixture
def song(client, model):
    """The address of a song without a recording."""
    return f"/v1/songs/{client.get('/v1/songs').json()['items'][0]['id']}"


def part(client, address, wanted, **headers):
    return client.get(f"{address}/audio", headers={"Range": wanted} | headers)


def test_a_track_is_heard_as_it_was_sent(client, track):
    answer = client.get(f"{track}/audio")
    assert (answer.status_code, answer.content) == (200, TRACK)
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "private" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=100-", 100, None), ("bytes=-50", -50, None)],
)
def test_a_range_is_what_it_says(client, track, wanted, begin, end):
    answer = part(client, track, wanted)
    assert (answer.status_code, answer.content) == (206, TRACK[begin:end])
    first = begin % len(TRACK)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(TRACK)}"
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("wanted", NOT_ONE)
def test_what_is_no_single_range_gets_it_all(client, track, wanted):
    answer = part(client, track, wanted)
    assert (answer.status_code, answer.content) == (200, TRACK)


@pytest.mark.parametrize("wanted", [f"bytes={len(TRACK)}-", "bytes=-0"])
def test_bytes_behind_the_end_are_refused(client, track, wanted):
    answer = part(client, track, wanted)
    assert (answer.status_code, slug(answer)) == (416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(TRACK)}"


def test_a_part_is_sent_only_of_what_the_caller_has_the_rest_of(client, track):
    etag = client.get(f"{track}/audio").headers["etag"]
    assert part(client, track, "bytes=0-9", **{"If-Range": etag}).status_code == 206
    assert part(client, track, "bytes=0-9", **{"If-Range": '"other"'}).status_code == 200
    assert client.get(f"{track}/audio", headers={"If-None-Match": etag}).status_code == 304


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
def test_every_range_agrees_with_slicing(content, first, last):
    try:
        found = ranges.part(f"bytes={first}-{last}", len(content))
    except RangeNotSatisfiable:
        assert first >= len(content)
    else:
        assert (found is None) == (last < first)
        if found is not None:
            assert content[found.start : found.end] == content[first : last + 1]


@pytest.mark.parametrize(("kind", "media_type"), KINDS.items())
def test_a_song_is_heard_in_its_own_format(client, song, kind, media_type):
    recording = Sound(rate=44_100).encode(kind)
    assert client.put(f"{song}/audio", content=recording).status_code == 200
    answer = client.get(f"{song}/audio")
    assert (answer.content, answer.headers["content-type"]) == (recording, media_type)


def test_a_song_without_a_recording_says_so(client, song):
    for what in ("audio", "waveform"):
        answer = client.get(f"{song}/{what}")
        assert (answer.status_code, slug(answer)) == (404, "no-recording")


def test_a_recording_that_is_gone_says_so(client, track, settings):
    for each in objects(settings):
        each.unlink()
    for what in ("audio", "waveform"):
        answer = client.get(f"{track}/{what}")
        assert (answer.status_code, slug(answer)) == (410, "audio-missing")


def test_a_stranger_hears_nothing(stranger, client, track, song):
    client.put(f"{song}/audio", content=TRACK)
    for address in (track, song):
        for what in ("audio", "waveform"):
            assert stranger.get(f"{address}/{what}").status_code == 404


def test_a_waveform_follows_the_sound(client, song):
    loud = np.concatenate([np.full(4_000, 0.1), np.full(4_000, -0.5)])
    client.put(f"{song}/audio", content=encode(loud[:, None], 8_000))
    shown = client.get(f"{song}/waveform").json()
    half = POINTS // 2
    assert shown["duration_s"] == pytest.approx(1.0)
    assert shown["peaks"][:half] == pytest.approx([0.1] * half, abs=1e-3)
    assert shown["peaks"][half:] == pytest.approx([0.5] * half, abs=1e-3)


def test_a_waveform_is_computed_once(client, track, settings):
    first = client.get(f"{track}/waveform")
    for each in objects(settings):
        each.unlink()
    assert first.status_code == 200
    assert client.get(f"{track}/waveform").json() == first.json()
