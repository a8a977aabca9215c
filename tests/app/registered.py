"""A small catalogue with a registered model, and attributions of it, for tests of the service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from app.attributions import service
from app.attributions.intake import KeptAudio
from app.attributions.outcome import Check, Outcome, OutcomeRow
from app.attributions.service import NewAttribution
from app.audio import AudioFacts
from app.db import transaction
from app.models import DEFAULT_TENANT, Model, Song, Tenant, TrainingSong

if TYPE_CHECKING:
    from app.config import Settings
    from app.db import Database

AUDIO = KeptAudio("default/abc", "abc", 1_000, AudioFacts("WAV", "PCM_16", 22_050, 1, 44_100, 2.0))
KEYS = ("one", "two", "three")


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def register(db: Database, *, tenant_id: str = DEFAULT_TENANT, name: str = "starter", digest: str = "i1") -> str:
    """The id of a new model trained on KEYS; songs and tenant are made once."""
    with transaction(db) as session:
        session.merge(Tenant(id=tenant_id, name=tenant_id, created_at=db.clock()))
        for key in KEYS:
            session.merge(Song(id=f"{tenant_id}-{key}", tenant_id=tenant_id, key=key, title=key.title(), artist="A"))
        session.flush()
        model = Model(
            tenant_id=tenant_id,
            name=name,
            folder=f"/models/{name}",
            model_digest="m1",
            index_digest=digest,
            segment_seconds=5.0,
            segments=3,
            songs=len(KEYS),
            created_at=db.clock(),
        )
        session.add(model)
        session.flush()
        for key in KEYS:
            song_id = f"{tenant_id}-{key}"
            session.add(TrainingSong(model_id=model.id, tenant_id=tenant_id, key=key, song_id=song_id, segments=1))
        return model.id


def queue_one(db: Database, settings: Settings, *, tenant_id: str = DEFAULT_TENANT, **asked: object) -> str:
    """The id of a new attribution."""
    with transaction(db) as session:
        request = NewAttribution(**asked)  # type: ignore[arg-type] (the caller's business)
        return service.create(session, tenant_id=tenant_id, request=request, audio=AUDIO, settings=settings).id


def outcome(keys: tuple[str, ...] = KEYS, unattributed: float = 0.4) -> Outcome:
    share = (1.0 - unattributed) / max(len(keys), 1) if keys else 0.0
    rows = tuple(
        OutcomeRow(key, 3.0 - rank, share, 99.0 - rank, Check(0.01) if rank == 0 else None, [{"segment": rank}])
        for rank, key in enumerate(keys)
    )
    return Outcome(
        influences=rows,
        unattributed=unattributed if keys else 1.0,
        model_digest="m1",
        index_digest="i1",
        reliability={"verdict": "good"},
        timings={"scoring": 0.5},
        details={"method": "index"},
    )
