"""What is refused by its header, what only decoding shows, and that no header buys memory or time."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from app import errors
from app.audio import AudioFacts, Limits, decode, inspect
from app.config import Settings
from app.decoding import Decoders
from tests.app.sounds import Sound, encode, flac_with_length, streamed_wav, wav_header, without_length

LIMITS = Limits.of(Settings())
TEN_HOURS = 36_000
NOISE = np.random.default_rng(0)
GOOD = {
    "wav": Sound().encode("WAV"),
    "wav-float": Sound(channels=2).encode("WAV", "FLOAT"),
    "wav-24": Sound().encode("WAV", "PCM_24"),
    "wavex": Sound(channels=4).encode("WAVEX"),
    "aiff": Sound(channels=2).encode("AIFF"),
    "flac": Sound().encode("FLAC"),
    "mp3": Sound(channels=2).encode("MP3"),
    "ogg": Sound(channels=2).encode("OGG", "VORBIS"),
    "opus": Sound(rate=48_000).encode("OGG", "OPUS"),
    "wav-streamed": streamed_wav(22_050, Sound().encode("WAV")[44:]),
    "flac-streamed": flac_with_length(Sound().encode("FLAC"), 0),
    "mp3-streamed": without_length(Sound().encode("MP3")),
}
REFUSED_BY_HEADER = {
    "text": (b"RIFF is not what this is, nor WAVE\n" * 100, errors.NotAudio),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(1000), errors.NotAudio),
    "one byte": (b"R", errors.NotAudio),
    "a RIFF without a form": (b"RIFF\xff\xff\xff\x7fWAVE", errors.NotAudio),
    "another sound format": (Sound().encode("AU"), errors.NotAudio),
    "64 channels": (Sound(seconds=0.1, channels=64).encode(), errors.TooManyChannels),
    "1 Hz": (encode(np.full((100, 1), 0.5), 1), errors.BadSampleRate),
    "a megahertz": (wav_header(1_000_000, 1, 4_000_000) + bytes(1000), errors.BadSampleRate),
    "a WAV of ten hours": (wav_header(8_000, 1, TEN_HOURS * 16_000) + bytes(1000), errors.TooLong),
    "a FLAC of ten hours": (flac_with_length(GOOD["flac"], TEN_HOURS * 22_050), errors.TooLong),
    "an AIFF of ten hours": (
        GOOD["aiff"].replace((44_100).to_bytes(4, "big"), (TEN_HOURS * 22_050).to_bytes(4, "big"), 1),
        errors.TooLong,
    ),
}
OGG = Sound(seconds=20).encode("OGG", "VORBIS")
OPUS = Sound(seconds=20, rate=48_000).encode("OGG", "OPUS")
NAN = np.where(np.arange(44_100) == 40_000, np.nan, Sound().samples()[:, 0])
SHOWN_BY_DECODING = {
    "half an mp3": (GOOD["mp3"][: len(GOOD["mp3"]) // 2], errors.Truncated),
    "half a flac": (GOOD["flac"][: len(GOOD["flac"]) // 2], errors.Truncated),
    "half an ogg": (OGG[: len(OGG) // 2], errors.Truncated),
    "half an opus": (OPUS[: len(OPUS) // 2], errors.Truncated),
    "half a wav": (GOOD["wav"][: len(GOOD["wav"]) // 2], errors.Truncated),
    "half an aiff": (GOOD["aiff"][: len(GOOD["aiff"]) // 2], errors.Truncated),
    "no sample": (encode(np.zeros((0, 1)), 22_050), errors.TooShort),
    "a header alone": (wav_header(22_050, 1, 0), errors.TooShort),
    "0.2 s": (Sound(seconds=0.2).encode(), errors.TooShort),
    "0.2 s of mp3": (Sound(seconds=0.2).encode("MP3"), errors.TooShort),
    "silence": (Sound(peak=0.0).encode("FLAC"), errors.Silent),
    "a constant": (encode(np.full((44_100, 2), 0.7), 22_050), errors.Silent),
    "nearly silence": (Sound(peak=5e-5).encode("WAV", "FLOAT"), errors.Silent),
    "a NaN": (encode(NAN, 22_050, subtype="FLOAT"), errors.NotFinite),
    "an infinity": (encode(np.where(np.isnan(NAN), np.inf, NAN), 22_050, subtype="DOUBLE"), errors.NotFinite),
    "absurd values": (encode(1e30 * Sound().samples(), 22_050, subtype="FLOAT"), errors.NotFinite),
}


@pytest.fixture
def stored(tmp_path):
    def store(data):
        path = tmp_path / "upload"
        path.write_bytes(data)
        return path

    return store


@pytest.mark.parametrize("name", GOOD)
def test_good_files_decode_to_what_they_hold(stored, name):
    path = stored(GOOD[name])
    announced, found = inspect(path, LIMITS), decode(path, LIMITS)
    assert found.samples.dtype == np.float32
    assert found.samples.shape == (found.facts.channels, found.facts.frames)
    assert found.samples.flags.c_contiguous
    assert found.facts.duration_s == pytest.approx(2.0, abs=0.1)
    assert np.abs(found.samples).max() == pytest.approx(0.3, abs=0.05)
    assert announced in {found.facts, replace(found.facts, frames=None, duration_s=None)}


def test_lossless_samples_come_through_unchanged_channel_by_channel(stored):
    samples = NOISE.uniform(-1, 1, (30_000, 3)).astype(np.float32)
    found = decode(stored(encode(samples, 16_000, subtype="FLOAT")), LIMITS)
    assert np.array_equal(found.samples, samples.T)
    assert found.rate == 16_000


@pytest.mark.parametrize("name", REFUSED_BY_HEADER)
def test_what_a_header_shows_is_refused_at_sight_and_when_decoding(stored, name):
    data, error = REFUSED_BY_HEADER[name]
    path = stored(data)
    with pytest.raises(error):
        inspect(path, LIMITS)
    with pytest.raises(error):
        decode(path, LIMITS)


@pytest.mark.parametrize("name", SHOWN_BY_DECODING)
def test_what_only_decoding_shows(stored, name):
    data, error = SHOWN_BY_DECODING[name]
    path = stored(data)
    assert isinstance(inspect(path, LIMITS), AudioFacts)
    with pytest.raises(error):
        decode(path, LIMITS)


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_more_than_allowed_behind_a_header_that_does_not_say_so_are_found_in_time(stored, kind):
    quarter = np.zeros((900 * 8_000, 1), dtype=np.int16)
    data = encode(quarter, 8_000, kind.upper())
    data = flac_with_length(data, 0) if kind == "flac" else without_length(data)
    path = stored(data)
    assert isinstance(inspect(path, LIMITS), AudioFacts)
    began = time.monotonic()
    with pytest.raises(errors.TooLong):
        decode(path, LIMITS)
    assert time.monotonic() - began < 20


def test_memory_is_bounded_whatever_rate_and_channels_allow(stored):
    path = stored(Sound(seconds=3, channels=8, rate=48_000).encode("FLAC"))
    tight = replace(LIMITS, max_decoded_bytes=1_000_000)
    with pytest.raises(errors.TooLarge):
        inspect(path, tight)
    unsaid = stored(flac_with_length(path.read_bytes(), 0))
    inspect(unsaid, tight)
    with pytest.raises(errors.TooLarge):
        decode(unsaid, tight)


def test_a_decoder_that_takes_too_long_is_ended(stored):
    path = stored(encode(np.zeros((2_000_000, 1)), 8_000, "OGG", "OPUS"))
    began = time.monotonic()
    with pytest.raises((errors.NotAudio, errors.DecoderFailed)):
        decode(path, replace(LIMITS, decode_seconds=0.01))
    assert time.monotonic() - began < 10


def test_a_decoder_that_cannot_start_is_worth_another_try(stored, monkeypatch):
    monkeypatch.setattr("app.audio.decoders", lambda: Decoders("/nonexistent/python"))
    with pytest.raises(errors.DecoderFailed) as raised:
        inspect(stored(GOOD["wav"]), LIMITS)
    assert raised.value.retryable


@pytest.mark.parametrize("seed", range(6))
def test_damaged_files_are_read_or_refused_and_nothing_else(stored, seed):
    random = np.random.default_rng(seed)
    data = bytearray(GOOD[["wav", "aiff", "flac", "mp3", "ogg", "opus"][seed]])
    for position in random.integers(0, min(len(data), 4_000), 12):
        data[position] = random.integers(256)
    with suppress(errors.AudioError):
        assert decode(stored(bytes(data)), LIMITS).samples.size > 0
