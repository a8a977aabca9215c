"""Attributions as a caller sees them: create, look at, list, cancel."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, contains_eager, joinedload

from app import cursor as cursors
from app import leasing, queue
from app.attributions.counting import counts_as
from app.audio import AudioFacts
from app.cursor import PAGE_ROWS
from app.db import after_commit, now
from app.errors import AudioMissing, Conflict, NotFound, UnknownMethod, UnknownModel
from app.models import Attribution, Influence, Method, Model, Song, Status, new_id
from app.usage import service as usage

if TYPE_CHECKING:
    from app.config import Settings
    from app.cursor import Page

TASK = "rootnote.attribute"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NewAttribution:
    """What a caller asks for beside the audio; `model` is a name, None for the default one."""

    model: str | None = None
    method: str = Method.INDEX
    prompt: str | None = None
    seed: int | None = None
    external_id: str | None = None
    top_k: int = 10
    filename: str | None = None
    batch: str | None = None
    custom_id: str | None = None
    expires_in_s: float | None = None
    ident: str | None = None
    """Under which id it is made; one that is there already is returned as it is."""


@dataclass(frozen=True)
class Anew:
    """How a track is attributed again: with which model, None for its own, and under which id."""

    model: str | None = None
    ident: str | None = None


@dataclass(frozen=True)
class KeptAudio:
    """A track in the storage."""

    key: str
    sha256: str
    bytes: int
    facts: AudioFacts


@dataclass(frozen=True)
class Listing:
    """Which attributions to list; None means any."""

    status: Status | None = None
    model: str | None = None
    created_after: datetime | None = None


def queue_name(model: str) -> str:
    """The message queue of a model's attributions."""
    return f"attribute.{model}"


def resolve_model(session: Session, *, tenant_id: str, name: str) -> Model:
    """The newest registration of the model of that name; raises UnknownModel."""
    found = session.scalars(
        select(Model)
        .where(Model.tenant_id == tenant_id, Model.name == name)
        .order_by(Model.created_at.desc(), Model.id.desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        raise UnknownModel(f"no model named {name!r} is registered")
    return found


def resolve_method(name: str) -> Method:
    """The method of that name; raises UnknownMethod."""
    try:
        return Method(name)
    except ValueError as error:
        raise UnknownMethod(f"the methods are {', '.join(Method)}") from error


def create(
    session: Session, *, tenant_id: str, request: NewAttribution, audio: KeptAudio, settings: Settings
) -> Attribution:
    """A queued attribution of a kept track; its message goes out after the commit.

    Raises UnknownModel, UnknownMethod, QuotaExhausted, and Conflict where another makes the same at this moment.
    """
    if request.ident is not None and (made := _made(session, tenant_id, request.ident)) is not None:
        return made
    usage.count_jobs(session, tenant_id, 1)
    model = resolve_model(session, tenant_id=tenant_id, name=request.model or settings.model_name)
    moment = now(session)
    attribution = Attribution(
        id=request.ident or new_id(),
        tenant_id=tenant_id,
        model=model,
        model_id=model.id,
        method=resolve_method(request.method),
        prompt=request.prompt,
        seed=request.seed,
        external_id=request.external_id,
        counts_as=counts_as(model.name, request.external_id, audio.sha256),
        batch=request.batch,
        custom_id=request.custom_id,
        top_k=request.top_k,
        filename=request.filename,
        audio_key=audio.key,
        audio_sha256=audio.sha256,
        audio_bytes=audio.bytes,
        audio_facts=asdict(audio.facts),
        created_at=moment,
        next_ring_at=moment + timedelta(seconds=settings.ring_seconds),
        expires_at=moment + timedelta(seconds=min(request.expires_in_s or math.inf, settings.queue_ttl_seconds)),
    )
    session.add(attribution)
    _flush(session, request)
    after_commit(session, partial(_log.info, "queued", id=attribution.id, tenant=tenant_id, model=model.name))
    ring(session, attribution.id, model.name, settings)
    return attribution


def repeat(
    session: Session, *, tenant_id: str, attribution_id: str, settings: Settings, anew: Anew = Anew()
) -> Attribution:
    """Queue the track of an attribution again, for the newest version of its model or of another one; it stays itself.

    Raises NotFound, AudioMissing, UnknownModel.
    """
    first = get(session, tenant_id=tenant_id, attribution_id=attribution_id)
    if first.audio_erased_at is not None:
        raise AudioMissing("the upload was erased")
    same = {name: getattr(first, name) for name in ("method", "prompt", "seed", "external_id", "top_k", "filename")}
    request = NewAttribution(model=anew.model or first.model.name, ident=anew.ident, **same)
    audio = KeptAudio(first.audio_key, first.audio_sha256, first.audio_bytes, AudioFacts(**first.audio_facts))
    again = create(session, tenant_id=tenant_id, request=request, audio=audio, settings=settings)
    again.repeats = first.id
    return again


def _flush(session: Session, request: NewAttribution) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        if request.ident is None:
            raise
        raise Conflict("another request makes the same at this moment; send it again") from error


def _made(session: Session, tenant_id: str, ident: str) -> Attribution | None:
    mine = (Attribution.tenant_id == tenant_id, Attribution.id == ident)
    return session.scalars(select(Attribution).where(*mine).options(joinedload(Attribution.model))).one_or_none()


def ring(session: Session, attribution_id: str, model: str, settings: Settings) -> None:
    """Tell the workers of `model`, after the commit, that this attribution waits."""
    queue.ring(session, queue.Message(TASK, attribution_id, queue_name(model)), settings=settings)


def get(session: Session, *, tenant_id: str, attribution_id: str) -> Attribution:
    """The attribution, its model loaded; raises NotFound for an unknown or foreign id."""
    found = session.scalars(
        select(Attribution)
        .where(Attribution.tenant_id == tenant_id, Attribution.id == attribution_id)
        .options(joinedload(Attribution.model))
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise NotFound("there is no such attribution")
    return found


def page(
    session: Session, *, tenant_id: str, listing: Listing, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Attribution]:
    """Attributions, newest first, their models loaded; raises BadCursor."""
    query = select(Attribution).where(Attribution.tenant_id == tenant_id).options(joinedload(Attribution.model))
    if listing.status is not None:
        query = query.where(Attribution.status == listing.status)
    if listing.model is not None:
        named = select(Model.id).where(Model.tenant_id == tenant_id, Model.name == listing.model)
        query = query.where(Attribution.model_id.in_(named))
    if listing.created_after is not None:
        query = query.where(Attribution.created_at > listing.created_after)
    if cursor is not None:
        place = tuple_(Attribution.created_at, Attribution.id)
        query = query.where(place < cursors.decode("attributions", cursor, datetime, str))
    newest_first = query.order_by(Attribution.created_at.desc(), Attribution.id.desc())
    rows = session.scalars(newest_first.limit(limit + 1)).all()
    return cursors.page(rows, limit, lambda row: cursors.encode("attributions", row.created_at, row.id))


def ranking(
    session: Session, *, tenant_id: str, attribution_id: str, cursor: str | None = None, limit: int | None = None
) -> tuple[Attribution, Page[Influence]]:
    """An attribution and its influences, best first, their songs loaded; raises NotFound, BadCursor.

    Without a limit the page holds the `top_k` of the request. An attribution that has not succeeded has none.
    """
    attribution = get(session, tenant_id=tenant_id, attribution_id=attribution_id)
    shown = attribution.top_k if limit is None else limit
    scope = f"influences:{attribution_id}"
    after = 0 if cursor is None else cursors.decode(scope, cursor, int)[0]
    rows = session.scalars(
        select(Influence)
        .join(Influence.song)
        .where(
            Influence.attribution_id == attribution_id, Influence.tenant_id == tenant_id, Song.tenant_id == tenant_id
        )
        .where(Influence.rank > after)
        .options(contains_eager(Influence.song))
        .order_by(Influence.rank)
        .limit(shown + 1)
    ).all()
    return attribution, cursors.page(rows, shown, lambda row: cursors.encode(scope, row.rank))


def cancel(session: Session, *, tenant_id: str, attribution_id: str) -> Attribution:
    """Ask for an end: what is queued is canceled at once, what runs when its worker next looks, what has ended stays.

    Asking again changes nothing. Raises NotFound.
    """
    chosen = (Attribution.tenant_id == tenant_id, Attribution.id == attribution_id)
    leasing.cancel(session, Attribution, *chosen)
    return get(session, tenant_id=tenant_id, attribution_id=attribution_id)
