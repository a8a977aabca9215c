"""A worker's hold on an attribution: whose turn it is, what its holder needs, and the result that it hands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import insert, select

from app import leasing
from app.alerts import crossing
from app.attributions import counting, turns
from app.db import now
from app.errors import InvalidResult
from app.leasing import Beat as Beat
from app.leasing import backoff as backoff
from app.leasing import beat as beat
from app.leasing import fail as fail
from app.leasing import release as release
from app.leasing import stop as stop
from app.models import Attribution, Influence, Model, Stage, Status, TrainingSong
from app.usage import service as usage
from app.webhooks import outbox

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.attributions.outcome import Outcome, OutcomeRow
    from app.config import Settings


@dataclass(frozen=True)
class Claim:
    """A lease with all that its holder needs to do the job; `attempt` counts from 1."""

    table: ClassVar = Attribution
    stages: ClassVar = Stage

    id: str
    token: str
    tenant_id: str
    attempt: int
    audio_key: str
    audio_sha256: str
    filename: str | None
    prompt: str | None
    method: str
    model_id: str
    model_name: str
    folder: str
    model_digest: str
    index_digest: str
    request_id: str | None


def claim(session: Session, *, attribution_id: str, worker_id: str, settings: Settings) -> Claim | None:
    """Take the next in turn of the attributions that wait for the same model as this one; None when none is due."""
    while (found := turns.next_waiting(session, attribution_id)) is not None:
        taken = take(session, attribution_id=found, worker_id=worker_id, settings=settings)
        if taken is not None:
            turns.served(session, taken.tenant_id)
            return taken
    return None


def take(session: Session, *, attribution_id: str, worker_id: str, settings: Settings) -> Claim | None:
    """Take one queued attribution whose time has come; None when it is taken, ended or not yet due."""
    token = leasing.take(session, Attribution, attribution_id, worker_id=worker_id, settings=settings)
    if token is None:
        return None
    row, model = session.execute(
        select(Attribution, Model).join(Attribution.model).where(Attribution.id == attribution_id)
    ).one()
    return _claim(row, model, token)


def _claim(row: Attribution, model: Model, token: str) -> Claim:
    return Claim(
        id=row.id,
        token=token,
        tenant_id=row.tenant_id,
        attempt=row.attempts,
        audio_key=row.audio_key,
        audio_sha256=row.audio_sha256,
        filename=row.filename,
        prompt=row.prompt,
        method=row.method,
        model_id=model.id,
        model_name=model.name,
        folder=model.folder,
        model_digest=model.model_digest,
        index_digest=model.index_digest,
        request_id=row.request_id,
    )


def complete(session: Session, *, claim: Claim, outcome: Outcome) -> bool:
    """Write the influences and end the attribution, together, counted if its track is not yet.

    False when the lease was lost and nothing was written.
    Raises InvalidResult when a song is not in the model's training set.
    """
    moment = now(session)
    values: dict[str, Any] = {
        "stage": None,
        "progress": 1.0,
        "finished_at": moment,
        "model_digest": outcome.model_digest,
        "index_digest": outcome.index_digest,
        "unattributed": outcome.unattributed,
        "provenance_verdict": str(outcome.worth.provenance.verdict),
        "provenance_probability": outcome.worth.provenance.probability,
        "reference_loss": outcome.worth.reference_loss,
        "calibrated": outcome.worth.calibrated,
        "abstained": outcome.worth.abstained,
        "reliability": outcome.reliability,
        "timings": outcome.timings,
        "details": outcome.details,
    }
    if outcome.audio_facts is not None:
        values["audio_facts"] = outcome.audio_facts
    if not leasing.end(session, claim, Status.SUCCEEDED, values):
        return False
    usage.meter(session, claim.tenant_id, audio_s=float((outcome.audio_facts or {}).get("duration_s") or 0.0))
    counted = counting.count(session, claim.id)
    if outcome.influences:
        session.execute(insert(Influence), _influences(session, claim, outcome, counted=counted))
    outbox.ended(session, Attribution, claim.id)
    if counted:
        crossing.counted(session, claim.id)
    return True


def _influences(session: Session, claim: Claim, outcome: Outcome, *, counted: bool) -> list[dict[str, Any]]:
    training = select(TrainingSong.key, TrainingSong.song_id).where(TrainingSong.model_id == claim.model_id)
    songs = dict(session.execute(training).all())
    unknown = [row.key for row in outcome.influences if row.key not in songs]
    if unknown:
        raise InvalidResult(f"not in the training set of the model: {', '.join(unknown[:5])}")
    shared = {
        "attribution_id": claim.id,
        "tenant_id": claim.tenant_id,
        "model_id": claim.model_id,
        "counted": counted,
        "created_at": now(session),
    }
    return [
        shared | {"song_id": songs[row.key], "rank": rank} | _numbers(row)
        for rank, row in enumerate(outcome.influences, start=1)
    ]


def _numbers(row: OutcomeRow) -> dict[str, Any]:
    check, interval = row.check, row.interval
    return {
        "score": row.score,
        "score_low": interval and interval.score_low,
        "score_high": interval and interval.score_high,
        "effect": row.effect,
        "share": row.share,
        "share_low": interval and interval.share_low,
        "share_high": interval and interval.share_high,
        "percentile": row.percentile,
        "check_mirrored": check and check.mirrored,
        "check_forward": check and check.forward,
        "matches": row.matches,
    }
