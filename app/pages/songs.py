"""The catalogue, and a song: its facts, its influence over time, the tracks that it was found in."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.orm import Session

from app.access.gate import Caller
from app.access.scopes import Scope
from app.catalogue import history, registry, service
from app.catalogue.history import Wanted
from app.catalogue.schemas import Bucket, HistoryPage, Song
from app.db import Database, reading
from app.deps import CallerDep, DatabaseDep, needs
from app.errors import InvalidRequest
from app.models import TrainingPolicy
from app.pages import timeline
from app.pages.rendering import PageRoute, page
from app.pages.timeline import MOST_BARS, STEPS, Step, Timeline
from app.usage.routes import within_quota

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[Depends(within_quota)])

PAGE = 50
TRACKS = 20
FEW = 40
"""So many tracks are shown one by one unless something else is asked for."""


@dataclass(frozen=True)
class Asked:
    """Which part of a song's history is asked for, and in what steps."""

    step: Step | None
    model: str
    since: date | None
    until: date | None
    cursor: str | None

    def wanted(self, song_id: str) -> Wanted:
        """As the catalogue takes it; the last day is meant whole. Raises InvalidRequest."""
        since, until = (None if day is None else _begin(day) for day in (self.since, self.until))
        return Wanted(song_id, since, None if until is None else until + timedelta(days=1), self.model or None)


async def asked(
    by: Annotated[str, Query()] = "",
    model: Annotated[str, Query(max_length=200)] = "",
    since: Annotated[str, Query(alias="from", max_length=10)] = "",
    until: Annotated[str, Query(alias="to", max_length=10)] = "",
    cursor: Annotated[str | None, Query()] = None,
) -> Asked:
    """Read a page's query; empty fields of a form count as left out. Raises InvalidRequest."""
    step = next((each for each in STEPS if each == by), None)
    return Asked(step, model.strip(), _day(since), _day(until), cursor)


async def chosen(
    q: Annotated[str, Query(max_length=300)] = "",
    isrc: Annotated[str, Query(max_length=40)] = "",
    artist: Annotated[str, Query(max_length=500)] = "",
) -> service.SongFilter:
    """Read which songs are looked for; empty fields of a form count as left out."""
    return service.SongFilter(isrc.strip() or None, artist.strip() or None, q.strip() or None)


@router.get("/songs", dependencies=[needs(Scope.CATALOGUE_READ)])
def catalogue(
    request: Request,
    database: DatabaseDep,
    caller: CallerDep,
    wanted: Annotated[service.SongFilter, Depends(chosen)],
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """List songs."""
    shown: dict[str, Any] = {"wanted": wanted, "policies": list(TrainingPolicy), "cursor": cursor}
    try:
        with reading(database) as session:
            found = service.page(session, tenant_id=caller.tenant_id, wanted=wanted, cursor=cursor, limit=PAGE)
            songs = [Song.model_validate(song) for song in found.items]
    except InvalidRequest as error:
        return page(request, "songs.html", error.status, songs=[], next_cursor=None, error=error, **shown)
    return page(request, "songs.html", songs=songs, next_cursor=found.next_cursor, error=None, **shown)


@router.get("/songs/{song_id}", dependencies=[needs(Scope.CATALOGUE_READ)])
def song(
    request: Request,
    database: DatabaseDep,
    caller: CallerDep,
    song_id: str,
    given: Annotated[Asked, Depends(asked)],
) -> Response:
    """Show a song and its history."""
    return page(request, "song.html", asked=given, **_shown(database, caller, song_id, given))


def _shown(database: Database, caller: Caller, song_id: str, given: Asked) -> dict[str, Any]:
    tenant_id, wanted = caller.tenant_id, given.wanted(song_id)
    with reading(database) as session:
        shown = Song.model_validate(service.get(session, tenant_id=tenant_id, song_id=song_id))
        if not caller.may(Scope.ATTRIBUTIONS_READ):
            return {"song": shown, "tracks": None}
        tracks = history.page(session, tenant_id=tenant_id, wanted=wanted, cursor=given.cursor, limit=TRACKS)
        chart, step = _chart(session, tenant_id, wanted, given.step)
        models = registry.page(session, tenant_id=tenant_id).items
    return {
        "song": shown,
        "tracks": HistoryPage.of(tracks.items, tracks.next_cursor),
        "chart": chart,
        "step": step,
        "steps": STEPS,
        "models": list(dict.fromkeys(model.name for model in models)),
    }


def _chart(session: Session, tenant_id: str, wanted: Wanted, step: Step | None) -> tuple[Timeline, Step]:
    bucket: Bucket = "day"
    if step is None or step == "track":
        most = FEW if step is None else MOST_BARS
        found = history.page(session, tenant_id=tenant_id, wanted=wanted, limit=most)
        if step == "track" or found.next_cursor is None:
            rows = HistoryPage.of(found.items, None).items
            return timeline.of_tracks(rows, cut=found.next_cursor is not None), "track"
    else:
        bucket = step
    points = history.series(session, tenant_id=tenant_id, wanted=wanted, bucket=bucket)
    return timeline.of_points(points, bucket), bucket


def _begin(of: date) -> datetime:
    return datetime(of.year, of.month, of.day, tzinfo=UTC)


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is not a day; write it as 2026-01-31") from error
