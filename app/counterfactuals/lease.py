"""A worker's hold on a counterfactual: what its holder needs, and the result that it hands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import select

from app import leasing
from app.db import now
from app.models import Attribution, Counterfactual, ForgettingStage, Model, Status, TrainingSong

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.config import Settings
    from app.counterfactuals.outcome import Outcome


@dataclass(frozen=True)
class Claim:
    """A lease with all that its holder needs; `attempt` counts from 1.

    audio_key, audio_sha256, track_prompt: of the attribution's track; song, control: keys in the index.
    """

    table: ClassVar = Counterfactual
    stages: ClassVar = ForgettingStage

    id: str
    token: str
    tenant_id: str
    attempt: int
    audio_key: str
    audio_sha256: str
    track_prompt: str | None
    prompt: str
    seed: int
    song: str
    control: str | None
    model_id: str
    model_name: str
    folder: str
    model_digest: str
    index_digest: str


def take(session: Session, *, counterfactual_id: str, worker_id: str, settings: Settings) -> Claim | None:
    """Take a queued counterfactual whose time has come; None when it is taken, ended or not yet due."""
    token = leasing.take(session, Counterfactual, counterfactual_id, worker_id=worker_id, settings=settings)
    if token is None:
        return None
    row, attribution, model = session.execute(
        select(Counterfactual, Attribution, Model)
        .join(Attribution, Attribution.id == Counterfactual.attribution_id)
        .join(Model, Model.id == Attribution.model_id)
        .where(Counterfactual.id == counterfactual_id)
    ).one()
    named = select(TrainingSong.song_id, TrainingSong.key).where(
        TrainingSong.model_id == model.id, TrainingSong.song_id.in_([row.song_id, row.control_song_id])
    )
    keys = dict(session.execute(named).all())
    return Claim(
        id=row.id,
        token=token,
        tenant_id=row.tenant_id,
        attempt=row.attempts,
        audio_key=attribution.audio_key,
        audio_sha256=attribution.audio_sha256,
        track_prompt=attribution.prompt,
        prompt=row.prompt,
        seed=row.seed,
        song=keys[row.song_id],
        control=keys.get(row.control_song_id or ""),
        model_id=model.id,
        model_name=model.name,
        folder=model.folder,
        model_digest=model.model_digest,
        index_digest=model.index_digest,
    )


def complete(session: Session, *, claim: Claim, outcome: Outcome) -> bool:
    """Write the result and end the counterfactual, together; False when the lease was lost and nothing was written."""
    values = {
        "stage": None,
        "progress": 1.0,
        "finished_at": now(session),
        "result": outcome.result(),
        "audio": outcome.recordings(),
    }
    return leasing.end(session, claim, Status.SUCCEEDED, values)
