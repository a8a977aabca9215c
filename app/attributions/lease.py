"""A worker's hold on an attribution: taken by one UPDATE, renewed by beats, and needed for every later write.

The token fences: once the lease is lost, nothing that its former holder does reaches the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Update, insert, select, update

from app.attributions import counting, turns
from app.attributions.states import move
from app.db import now
from app.errors import InvalidResult
from app.models import Attribution, Influence, Model, Stage, Status, TrainingSong, new_id
from app.usage import service as usage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.attributions.outcome import ErrorInfo, Outcome, OutcomeRow
    from app.config import Settings


class Beat(StrEnum):
    """What a heartbeat learns: go on, stop because someone asked, or stop because the lease is another's."""

    OK = "ok"
    CANCEL = "cancel"
    LOST = "lost"


@dataclass(frozen=True)
class Claim:
    """A lease with all that its holder needs to do the job; `attempt` counts from 1."""

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
    moment, token = now(session), new_id()
    taking = (
        move(Status.QUEUED, Status.RUNNING)
        .where(Attribution.id == attribution_id, *turns.due(moment))
        .values(lease_token=token, lease_until=moment + timedelta(seconds=settings.lease_seconds))
        .values(worker_id=worker_id, attempts=Attribution.attempts + 1, started_at=moment)
        .values(stage=Stage.DECODING, progress=0.0)
        .returning(Attribution.id)
    )
    if session.scalars(taking).one_or_none() is None:
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
    )


def beat(
    session: Session, *, claim: Claim, settings: Settings, stage: Stage | None = None, progress: float | None = None
) -> Beat:
    """Renew the lease, note stage and progress (clamped to 0–1) if given, and learn whether to go on."""
    values: dict[str, Any] = {"lease_until": now(session) + timedelta(seconds=settings.lease_seconds)}
    if stage is not None:
        values["stage"] = Stage(stage)
    if progress is not None:
        values["progress"] = min(max(progress, 0.0), 1.0)
    renewing = update(Attribution).where(Attribution.status == Status.RUNNING).values(values)
    canceling = session.scalars(_held(renewing, claim).returning(Attribution.cancel_requested)).one_or_none()
    if canceling is None:
        return Beat.LOST
    return Beat.CANCEL if canceling else Beat.OK


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
    if not _end(session, claim, Status.SUCCEEDED, values):
        return False
    usage.meter(session, claim.tenant_id, audio_s=float((outcome.audio_facts or {}).get("duration_s") or 0.0))
    counted = counting.count(session, claim.id)
    if outcome.influences:
        session.execute(insert(Influence), _influences(session, claim, outcome, counted=counted))
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


def fail(session: Session, *, claim: Claim, error: ErrorInfo, retry: bool, settings: Settings) -> bool:
    """End the attribution with `error`, or with `retry` queue it for a later attempt while any is left.

    One that was to be canceled is canceled instead of tried again. False when the lease was lost.
    """
    if retry and stop(session, claim=claim):
        return True
    if retry and claim.attempt < settings.max_attempts:
        again = now(session) + backoff(claim.attempt, settings)
        return _end(session, claim, Status.QUEUED, {"not_before": again, "next_ring_at": again})
    values = {"finished_at": now(session), "error_type": error.type, "error_detail": error.detail}
    return _end(session, claim, Status.FAILED, values)


def backoff(attempt: int, settings: Settings) -> timedelta:
    """How long to wait after the failed attempt of that number, counted from 1."""
    return timedelta(seconds=settings.retry_seconds * 2 ** (attempt - 1))


def release(session: Session, *, claim: Claim) -> bool:
    """Give the attribution back, as a worker does that shuts down: no attempt is counted, others may take it at once.

    One that was to be canceled is canceled. False when the lease was lost.
    """
    if stop(session, claim=claim):
        return True
    values = {"attempts": Attribution.attempts - 1, "next_ring_at": now(session), "worker_id": None}
    return _end(session, claim, Status.QUEUED, values)


def stop(session: Session, *, claim: Claim) -> bool:
    """End an attribution that was to be canceled; False when the lease was lost or no one asked."""
    canceling = move(Status.RUNNING, Status.CANCELED).where(Attribution.cancel_requested.is_(True))
    return _metered(session, claim, _held(canceling, claim).values(finished_at=now(session)))


def _end(session: Session, claim: Claim, target: Status, values: dict[str, Any]) -> bool:
    return _metered(session, claim, _held(move(Status.RUNNING, target), claim).values(values))


def _metered(session: Session, claim: Claim, ending: Update) -> bool:
    """Whether an end was written; then the time that the attempt took counts as used."""
    began = session.scalars(ending.returning(Attribution.started_at)).one_or_none()
    if began is None:
        return False
    usage.meter(session, claim.tenant_id, device_s=max((now(session) - began).total_seconds(), 0.0))
    return True


def _held(statement: Update, claim: Claim) -> Update:
    return statement.where(Attribution.id == claim.id, Attribution.lease_token == claim.token)
