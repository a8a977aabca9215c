"""Counterfactuals as a caller sees them: ask for one, look at it, list, cancel. Functions over a session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select, tuple_
from sqlalchemy.orm import joinedload

from app import cursor as cursors
from app import leasing, queue
from app.attributions import service as attributions
from app.counterfactuals import matching
from app.cursor import PAGE_ROWS
from app.db import now
from app.errors import Conflict, InvalidRequest, NotFound
from app.models import Attribution, Counterfactual, Song, Status, Take, TrainingSong, new_id
from app.usage import service as usage

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from app.config import Settings
    from app.cursor import Page

TASK = "rootnote.forget"
_STANDING = (Status.QUEUED, Status.RUNNING, Status.SUCCEEDED)


class NotAttributed(Conflict):
    """The attribution has not succeeded, so nothing is known that could be tried."""

    type, title = "not-attributed", "The attribution has no result yet"


class UnknownSong(InvalidRequest):
    """There is no such song in the catalogue."""

    type, title = "unknown-song", "This song is not in the catalogue"


class NotInTrainingSet(InvalidRequest):
    """The model was not trained on this song, so it cannot forget it."""

    type, title = "not-in-training-set", "The model was not trained on this song"


class PromptNeeded(InvalidRequest):
    """The track's prompt is not known, and none was given to make it again from."""

    type, title = "prompt-needed", "A prompt is needed to make the track again"


class NoTake(NotFound):
    """The counterfactual has no such recording: it has not succeeded, or there was no control song."""

    type, title = "no-recording", "No recording is held here"


@dataclass(frozen=True)
class NewCounterfactual:
    """Which song is to be forgotten; prompt and seed of the generation, None: those of the attribution.

    ident: the id that it gets, under which it may be there already; None: a new one.
    """

    song_id: str
    prompt: str | None = None
    seed: int | None = None
    ident: str | None = None


@dataclass(frozen=True)
class Generation:
    """What the track is made again from."""

    prompt: str
    seed: int


def queue_name(model: str) -> str:
    """The message queue of a model's counterfactuals."""
    return f"forget.{model}"


def create(
    session: Session, *, tenant_id: str, attribution_id: str, request: NewCounterfactual, settings: Settings
) -> Counterfactual:
    """A queued counterfactual; its message goes out after the commit. One that was asked for before is answered again.

    Those who ask about one attribution at once do so one after the other.
    Raises NotFound, NotAttributed, UnknownSong, NotInTrainingSet, PromptNeeded, QuotaExhausted.
    """
    attribution = attributions.get(session, tenant_id=tenant_id, attribution_id=attribution_id)
    made_from = _generation(attribution, request)
    _require_trained(session, attribution, request.song_id)
    _take_turns(session, attribution)
    standing = _standing(session, attribution, request, made_from)
    if standing is not None:
        return get(session, tenant_id=tenant_id, counterfactual_id=standing)
    usage.count_jobs(session, tenant_id, 1)
    draw = f"{attribution.id} {request.song_id}"
    control = matching.control(session, model_id=attribution.model_id, song_id=request.song_id, draw=draw)
    moment = now(session)
    made = Counterfactual(
        id=request.ident or new_id(),
        tenant_id=tenant_id,
        attribution_id=attribution.id,
        song_id=request.song_id,
        control_song_id=control and control[0],
        control_match=control and control[1],
        prompt=made_from.prompt,
        seed=made_from.seed,
        created_at=moment,
        next_ring_at=moment + timedelta(seconds=settings.ring_seconds),
        expires_at=moment + timedelta(seconds=settings.queue_ttl_seconds),
    )
    session.add(made)
    session.flush()
    ring(session, made.id, attribution.model.name, settings)
    return get(session, tenant_id=tenant_id, counterfactual_id=made.id)


def ring(session: Session, counterfactual_id: str, model: str, settings: Settings) -> None:
    """Tell the workers of `model`, after the commit, that this counterfactual waits."""
    queue.ring(session, queue.Message(TASK, counterfactual_id, queue_name(model)), settings=settings)


def get(session: Session, *, tenant_id: str, counterfactual_id: str) -> Counterfactual:
    """The counterfactual, its songs loaded; raises NotFound for an unknown or foreign id."""
    chosen = _shown(tenant_id).where(Counterfactual.id == counterfactual_id)
    found = session.scalars(chosen.execution_options(populate_existing=True)).one_or_none()
    if found is None:
        raise NotFound("there is no such counterfactual")
    return found


def page(
    session: Session, *, tenant_id: str, attribution_id: str, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Counterfactual]:
    """An attribution's counterfactuals, newest first, their songs loaded; raises NotFound, BadCursor."""
    attributions.get(session, tenant_id=tenant_id, attribution_id=attribution_id)
    scope, query = f"counterfactuals:{attribution_id}", _shown(tenant_id)
    query = query.where(Counterfactual.attribution_id == attribution_id)
    if cursor is not None:
        place = tuple_(Counterfactual.created_at, Counterfactual.id)
        query = query.where(place < cursors.decode(scope, cursor, datetime, str))
    newest_first = query.order_by(Counterfactual.created_at.desc(), Counterfactual.id.desc())
    rows = session.scalars(newest_first.limit(limit + 1)).all()
    return cursors.page(rows, limit, lambda row: cursors.encode(scope, row.created_at, row.id))


def cancel(session: Session, *, tenant_id: str, counterfactual_id: str) -> Counterfactual:
    """Ask for an end: of what is queued at once, of what runs when its worker next looks; raises NotFound."""
    leasing.cancel(
        session, Counterfactual, Counterfactual.tenant_id == tenant_id, Counterfactual.id == counterfactual_id
    )
    return get(session, tenant_id=tenant_id, counterfactual_id=counterfactual_id)


def recording(session: Session, *, tenant_id: str, counterfactual_id: str, take: Take) -> tuple[str, str]:
    """The key and the digest of a take's recording in the storage; raises NotFound, NoTake."""
    kept = get(session, tenant_id=tenant_id, counterfactual_id=counterfactual_id).audio.get(take)
    if kept is None:
        raise NoTake
    return kept["key"], kept["sha256"]


def _generation(attribution: Attribution, request: NewCounterfactual) -> Generation:
    if attribution.status != Status.SUCCEEDED:
        raise NotAttributed(f"the attribution is {attribution.status}")
    prompt = attribution.prompt if request.prompt is None else request.prompt
    if prompt is None:
        raise PromptNeeded("the attribution has no prompt; send the one that the track was made from")
    seed = attribution.seed if request.seed is None else request.seed
    return Generation(prompt, seed or 0)


def _require_trained(session: Session, attribution: Attribution, song_id: str) -> None:
    known = select(Song.id).where(Song.tenant_id == attribution.tenant_id, Song.id == song_id)
    if session.scalar(known) is None:
        raise UnknownSong("there is no such song")
    trained = select(TrainingSong.key).where(
        TrainingSong.model_id == attribution.model_id, TrainingSong.song_id == song_id
    )
    if session.scalar(trained) is None:
        raise NotInTrainingSet(f"the training set of {attribution.model.name} does not hold it")


def _take_turns(session: Session, attribution: Attribution) -> None:
    """Hold the attribution until the commit, so that whoever asks the same at once finds what this transaction made."""
    mine = select(Attribution.id).where(Attribution.id == attribution.id)
    session.scalar(mine.with_for_update(key_share=True))


def _standing(
    session: Session, attribution: Attribution, request: NewCounterfactual, made_from: Generation
) -> str | None:
    """Return the id of what this request made before, or of the same question that waits, runs or was answered."""
    same = and_(
        Counterfactual.song_id == request.song_id,
        Counterfactual.prompt == made_from.prompt,
        Counterfactual.seed == made_from.seed,
        Counterfactual.status.in_(_STANDING),
    )
    return session.scalar(
        select(Counterfactual.id)
        .where(Counterfactual.tenant_id == attribution.tenant_id, Counterfactual.attribution_id == attribution.id)
        .where(or_(Counterfactual.id == request.ident, same))
        .order_by(Counterfactual.created_at.desc())
        .limit(1)
    )


def _shown(tenant_id: str) -> Select[Counterfactual]:
    loaded = (joinedload(Counterfactual.song), joinedload(Counterfactual.control_song))
    return select(Counterfactual).where(Counterfactual.tenant_id == tenant_id).options(*loaded)
