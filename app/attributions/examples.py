"""What answers look like, for the interface's own documentation."""

from typing import Any

ID = "01980000-0000-7000-8000-000000000001"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
MATCH: dict[str, Any] = {"segment": 3, "song_start_s": 30.0, "track_start_s": 0.0, "seconds": 10.0, "score": 0.82}
SONG: dict[str, Any] = {
    "id": ID,
    "key": "k-1",
    "title": "Night Drive",
    "artist": "The Examples",
    "isrc": "USSKG1912345",
}
RESULT: dict[str, Any] = {
    "method": "index",
    "measure": "squared_output + squared_noise",
    "draws": 64,
    "model_digest": DIGEST,
    "index_digest": DIGEST,
    "worker_id": ID,
    "provenance": {"verdict": "own", "probability": 0.998},
    "reference_loss": 0.34,
    "shares": "calibrated",
    "abstained": None,
    "unattributed": 0.71,
    "reliability": {"draws": 0.93, "linearisation": 0.88, "hubs": 0.41, "verdict": "good"},
    "timings": {"decoding": 0.1, "encoding": 0.4, "unlearning": 3.2, "scoring": 0.2, "ranking": 0.1},
    "details": {"seed": 0},
}
ROW: dict[str, Any] = {
    "rank": 1,
    "song": SONG,
    "score": 0.078,
    "score_low": 0.071,
    "score_high": 0.085,
    "effect": 0.048,
    "share": 0.141,
    "share_low": 0.081,
    "share_high": 0.257,
    "background_percentile": 99.2,
    "check": {"mirrored": 0.26, "forward": 0.25},
    "matches": [MATCH],
}
ATTRIBUTION: dict[str, Any] = {
    "id": ID,
    "status": "succeeded",
    "stage": None,
    "progress": 1.0,
    "method": "index",
    "model": {"id": ID, "name": "starter"},
    "prompt": "slow piano",
    "seed": 5000,
    "external_id": "render-77",
    "counted": True,
    "repeats": None,
    "top_k": 10,
    "audio": {
        "filename": "track.wav",
        "sha256": DIGEST,
        "bytes": 441_044,
        "format": "WAV",
        "samplerate": 44_100,
        "channels": 1,
        "duration_s": 5.0,
    },
    "audio_erased_at": None,
    "attempts": 1,
    "cancel_requested": False,
    "created_at": "2026-01-02T03:04:05Z",
    "started_at": "2026-01-02T03:04:05Z",
    "finished_at": "2026-01-02T03:04:11Z",
    "expires_at": "2026-01-03T03:04:05Z",
    "error": None,
    "result": RESULT,
}
