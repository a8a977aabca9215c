"""Counted once: of all attributions of one track by one model, sums are made of the first to succeed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from sqlalchemy import exists, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from app.models import Attribution

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def counts_as(model: str, external_id: str | None, audio_sha256: str) -> str:
    """The digest under which a track counts: a model's name, and the caller's name for the track or else its bytes."""
    named = ["external_id", external_id] if external_id else ["audio", audio_sha256]
    return hashlib.sha256(json.dumps([model, *named]).encode()).hexdigest()


def count(session: Session, attribution_id: str) -> bool:
    """Count an attribution unless its track counts already; whether it does. It never fails for another's sake."""
    other = aliased(Attribution)
    same = (other.tenant_id == Attribution.tenant_id, other.counts_as == Attribution.counts_as, other.counted)
    first = update(Attribution).where(Attribution.id == attribution_id, ~exists().where(*same))
    counting = first.values(counted=True).returning(Attribution.id)
    try:
        with session.begin_nested():
            found = session.scalars(counting, execution_options={"synchronize_session": False})
            return found.one_or_none() is not None
    except IntegrityError:  # the same track came first in another transaction, which this one could not see
        return False
