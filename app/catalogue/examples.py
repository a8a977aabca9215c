"""What songs and their history look like, for the interface's own documentation."""

from typing import Any

from app.attributions.examples import DIGEST, ID, ROW

RIGHT: dict[str, Any] = {
    "party": "Ada Lovelace",
    "role": "composer",
    "ipi": "00014107338",
    "isni": "000000012281955X",
    "share": 0.5,
}
FACTS: dict[str, Any] = {
    "key": "label-0042",
    "title": "Night Drive",
    "artist": "The Examples",
    "isrc": "USSKG1912345",
    "iswc": "T0345246801",
    "upc": "036000291452",
    "duration_s": 214.5,
    "licence": "CC-BY-4.0",
    "training_policy": "allow",
    "rights": [RIGHT],
}
SONG: dict[str, Any] = FACTS | {
    "id": ID,
    "rights": [RIGHT | {"holder_id": ID}],
    "audio_sha256": DIGEST,
    "created_at": "2026-01-02T03:04:05Z",
    "updated_at": "2026-01-02T03:04:05Z",
    "warnings": [],
}
REPORT: dict[str, Any] = {
    "dry_run": False,
    "rows": 120,
    "created": 100,
    "updated": 15,
    "unchanged": 4,
    "errors": [
        {"line": 7, "column": 4, "field": "isrc", "message": "an ISRC is two letters, then ten letters or digits"}
    ],
    "warnings": [],
    "ignored_columns": ["label_code"],
}
HISTORY_ROW: dict[str, Any] = {name: value for name, value in ROW.items() if name != "song"} | {
    "at": "2026-01-02T03:04:11Z",
    "attribution": {
        "id": ID,
        "external_id": "render-77",
        "filename": "track.wav",
        "created_at": "2026-01-02T03:04:05Z",
    },
    "model": {"id": ID, "name": "starter"},
    "method": "index",
    "counted": True,
}
