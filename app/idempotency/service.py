"""Keys of requests: claimed before a request is carried out, answered after it, forgotten after a day.

What makes a request safe to repeat after a crash is not the lock but `made_id`: whatever the request creates has the id
that was chosen with the key, so that whoever carries it out again finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.db import now
from app.errors import ServiceError
from app.models import IdempotencyKey, new_id

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.config import Settings

BATCH = 1_000


class BadIdempotencyKey(ServiceError):
    """An Idempotency-Key that cannot be one."""

    status, type, title = 400, "idempotency-key-invalid", "The Idempotency-Key is not valid"


class IdempotencyKeyReused(ServiceError):
    """An Idempotency-Key came before with another request."""

    status, type, title = 422, "idempotency-key-reused", "The Idempotency-Key belongs to another request"


class IdempotencyKeyInUse(ServiceError):
    """The request of this Idempotency-Key is being carried out; asking again tells how it ended."""

    status, type, title, retryable = 409, "idempotency-key-in-use", "The request is being carried out", True


@dataclass(frozen=True)
class Asked:
    """A request as its key knows it: the tenant's key, and a digest of all that the request says."""

    tenant_id: str
    key: str
    fingerprint: str


@dataclass(frozen=True)
class Claim:
    """The right to carry a request out; what it creates has the id `made_id`; `again`: another may have begun it."""

    tenant_id: str
    key: str
    token: str
    made_id: str
    again: bool = False


@dataclass(frozen=True)
class Answered:
    """The answer that the request was given."""

    status: int
    headers: dict[str, str]
    body: str


def claim(session: Session, asked: Asked, settings: Settings) -> Claim | Answered:
    """Begin to carry a request out, or learn how it was answered.

    Raises IdempotencyKeyReused where the key came with another request, IdempotencyKeyInUse while it is carried out.
    """
    if (taken := _first(session, asked, settings)) is not None:
        return taken
    row = session.scalars(_named(asked).with_for_update().execution_options(populate_existing=True)).one_or_none()
    if row is None or row.expires_at <= now(session):
        session.execute(delete(IdempotencyKey).where(*_mine(asked)))
        return _first(session, asked, settings) or _busy(settings.idempotency_lock_seconds)
    if row.fingerprint != asked.fingerprint:
        raise IdempotencyKeyReused("this key came before with another request; take a new key for a new request")
    if row.status is not None:
        return Answered(row.status, row.headers or {}, row.body or "")
    if row.locked_until > now(session):
        _busy((row.locked_until - now(session)).total_seconds())
    row.token, row.locked_until = new_id(), _lapse(session, settings)
    return Claim(asked.tenant_id, asked.key, row.token, row.made_id, again=True)


def renew(session: Session, held: Claim, settings: Settings) -> None:
    """Hold a claim for longer; one that another has taken over stays theirs."""
    session.execute(update(IdempotencyKey).where(*_held(held)).values(locked_until=_lapse(session, settings)))


def finish(session: Session, held: Claim, answer: Answered) -> None:
    """Keep the answer for whoever asks again; one who took the request over keeps their own."""
    values = {"status": answer.status, "headers": answer.headers, "body": answer.body}
    session.execute(update(IdempotencyKey).where(*_held(held)).values(values))


def leave(session: Session, held: Claim, *, unsure: bool) -> None:
    """Give a claim back without an answer; with `unsure` something may have been made, and the key stays bound."""
    if unsure or held.again:
        session.execute(update(IdempotencyKey).where(*_held(held)).values(locked_until=now(session)))
    else:
        session.execute(delete(IdempotencyKey).where(*_held(held)))


def forget(session: Session) -> int:
    """Delete keys of more than a day, up to `BATCH`; returns how many."""
    columns = (IdempotencyKey.tenant_id, IdempotencyKey.key)
    old = session.execute(select(*columns).where(IdempotencyKey.expires_at <= now(session)).limit(BATCH)).all()
    gone = 0
    for tenant_id, key in old:
        mine = (IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.key == key)
        deleting = delete(IdempotencyKey).where(*mine, IdempotencyKey.expires_at <= now(session))
        gone += len(session.scalars(deleting.returning(IdempotencyKey.key)).all())
    return gone


def _first(session: Session, asked: Asked, settings: Settings) -> Claim | None:
    """Claim a key that nobody used; None where somebody did."""
    moment, held = now(session), Claim(asked.tenant_id, asked.key, new_id(), new_id())
    values = {
        "tenant_id": asked.tenant_id,
        "key": asked.key,
        "fingerprint": asked.fingerprint,
        "made_id": held.made_id,
        "token": held.token,
        "locked_until": _lapse(session, settings),
        "created_at": moment,
        "expires_at": moment + timedelta(seconds=settings.idempotency_ttl_seconds),
    }
    try:
        with session.begin_nested():
            session.execute(insert(IdempotencyKey).values(values))
    except IntegrityError:
        return None
    return held


def _lapse(session: Session, settings: Settings) -> datetime:
    return now(session) + timedelta(seconds=settings.idempotency_lock_seconds)


def _busy(seconds: float) -> Claim:
    raise IdempotencyKeyInUse("its answer comes to whoever asks again", retry_after_s=min(max(seconds, 1.0), 2.0))


def _named(asked: Asked) -> Any:
    return select(IdempotencyKey).where(*_mine(asked))


def _mine(asked: Asked) -> tuple[ColumnElement[bool], ...]:
    return IdempotencyKey.tenant_id == asked.tenant_id, IdempotencyKey.key == asked.key


def _held(held: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotencyKey.tenant_id == held.tenant_id,
        IdempotencyKey.key == held.key,
        IdempotencyKey.token == held.token,
    )
