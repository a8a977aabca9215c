"""The songs of a catalogue and their influence history over HTTP: parse, call the service, show."""

from dataclasses import replace
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response, status
from fastapi.concurrency import run_in_threadpool

from app import answers, errors
from app.access.scopes import Scope
from app.attributions.intake import Intake, keep, receive
from app.catalogue import held, history, importing, service
from app.catalogue.schemas import (
    Bucket,
    HistoryPage,
    HistoryPoint,
    HistorySeries,
    ImportReport,
    Song,
    SongChanges,
    SongFacts,
    SongPage,
)
from app.db import reading, transaction
from app.deps import CallerDep, DatabaseDep, IntakeDep, Moment, PlaceDep, ReadDep, WriteDep, needs
from app.idempotency.routes import REFUSALS, OnceDep, OnceRoute
from app.problems import document
from app.retention.holding import claim

router = APIRouter(prefix="/v1/songs", tags=["catalogue"], route_class=OnceRoute)

MAX_SONG_SECONDS = 7200.0
_CHUNK = 1024 * 1024
_AUDIO: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The bytes of the file: WAV, FLAC, MP3, Ogg, Opus or AIFF.",
    }
}
_CSV = "key,title,artist,isrc,rights\nk-1,Night Drive,The Examples,US-SKG-19-12345,Ada|composer|0.5; Bo|lyricist|0.5\n"


async def filters(
    isrc: Annotated[str | None, Query(description="An ISRC in any notation.", examples=["US-SKG-19-12345"])] = None,
    artist: Annotated[str | None, Query(description="An artist's whole name; case does not matter.")] = None,
    q: Annotated[
        str | None, Query(description="Words of the title, the artist or the key; each may be unfinished.")
    ] = None,
    key: Annotated[str | None, Query(description="The caller's own name for it, as it is.")] = None,
) -> service.SongFilter:
    """Return which songs are asked for."""
    return service.SongFilter(isrc, artist, q, key)


async def wanted(
    song_id: str,
    since: Annotated[Moment | None, Query(alias="from", description="From this instant on.")] = None,
    until: Annotated[Moment | None, Query(alias="to", description="Before this instant.")] = None,
    model: Annotated[str | None, Query(description="A model's id, or its name for all its versions.")] = None,
) -> history.Wanted:
    """Return which part of a song's history is asked for."""
    return history.Wanted(song_id, since, until, model)


WantedDep = Annotated[history.Wanted, Depends(wanted)]


@router.post(
    "",
    operation_id="createSong",
    dependencies=[needs(Scope.CATALOGUE_WRITE)],
    summary="Add a song",
    status_code=status.HTTP_201_CREATED,
    responses=document(errors.Conflict, errors.HolderConflict, *REFUSALS),
)
def create(session: WriteDep, once: OnceDep, facts: SongFacts, response: Response) -> Song:
    """Add a song to the catalogue. Its key is unique in it; its ISRC need not be."""
    song = service.create(session, tenant_id=once.tenant_id, facts=facts, ident=once.id)
    response.headers["Location"] = f"{router.prefix}/{song.id}"
    return Song.model_validate(song)


@router.get(
    "",
    operation_id="listSongs",
    dependencies=[needs(Scope.CATALOGUE_READ, Scope.HOLDER_READ)],
    summary="Find songs by ISRC, artist or words",
    response_model=SongPage,
    responses=document(errors.BadCursor),
)
def listing(
    database: DatabaseDep, caller: CallerDep, place: PlaceDep, chosen: Annotated[service.SongFilter, Depends(filters)]
) -> Response:
    """Show the catalogue's songs in the order of their creation; to a rights-holder, its own."""
    chosen = replace(chosen, holder_id=caller.holder_id)
    with reading(database) as session:
        found = service.page(session, tenant_id=caller.tenant_id, wanted=chosen, cursor=place.cursor, limit=place.limit)
    items = [held.song(song, caller.holder_id) for song in found.items]
    return answers.json(SongPage(items=items, next_cursor=found.next_cursor))


@router.post(
    "/import",
    operation_id="importSongs",
    dependencies=[needs(Scope.CATALOGUE_WRITE)],
    summary="Add and change many songs by a CSV file",
    responses=document(errors.TooLarge, errors.Conflict, *REFUSALS),
)
def import_songs(
    database: DatabaseDep,
    once: OnceDep,
    data: Annotated[bytes, Body(media_type="text/csv", examples=[_CSV])],
    dry_run: Annotated[bool, Query(description="Only say what would be done.")] = False,
) -> ImportReport:
    """Store every sound line by its key (without one, by its ISRC) and say what is wrong with the others.

    Columns: key, title, artist, isrc, iswc, upc, duration_s, licence, training_policy, policy_from, policy_to, rights
    (`party|role|share|ipi|isni; …`). An empty cell changes nothing.
    """
    sheet = importing.parse(data)
    with reading(database) if dry_run else transaction(database) as session:
        return importing.store(session, tenant_id=once.tenant_id, sheet=sheet, dry_run=dry_run)


@router.get(
    "/{song_id}",
    operation_id="getSong",
    dependencies=[needs(Scope.CATALOGUE_READ, Scope.HOLDER_READ)],
    summary="See a song",
    responses=document(errors.NotFound),
)
def get(session: ReadDep, caller: CallerDep, song_id: str) -> Song:
    """Show a song with its rights; to a rights-holder, one of its own songs with its own rights."""
    held.require(session, tenant_id=caller.tenant_id, holder_id=caller.holder_id, song_id=song_id)
    return held.song(service.get(session, tenant_id=caller.tenant_id, song_id=song_id), caller.holder_id)


@router.patch(
    "/{song_id}",
    operation_id="changeSong",
    dependencies=[needs(Scope.CATALOGUE_WRITE)],
    summary="Change a song",
    responses=document(errors.NotFound, errors.HolderConflict),
)
def change(session: WriteDep, caller: CallerDep, song_id: str, changes: SongChanges) -> Song:
    """Change the facts that are given; `rights` replaces all of them."""
    song = service.change(session, tenant_id=caller.tenant_id, song_id=song_id, changes=changes)
    return Song.model_validate(song)


@router.put(
    "/{song_id}/audio",
    operation_id="putSongAudio",
    dependencies=[needs(Scope.CATALOGUE_WRITE)],
    summary="Store a song's recording",
    openapi_extra=_AUDIO,
    responses=document(
        errors.NotFound, errors.Empty, errors.Truncated, errors.TooLarge, errors.NotAudio, errors.Unavailable
    ),
)
async def put_audio(request: Request, intake: IntakeDep, caller: CallerDep, song_id: str) -> Song:
    """Take the body as the song's recording, in place of an earlier one."""
    with SpooledTemporaryFile(max_size=_CHUNK) as file:
        async for chunk in request.stream():
            await run_in_threadpool(file.write, chunk)
        file.seek(0)
        return await run_in_threadpool(_keep_audio, intake, caller.tenant_id, song_id, file)


@router.get(
    "/{song_id}/influences",
    operation_id="listSongInfluences",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.HOLDER_READ)],
    summary="See the tracks that a song was found in, the newest first",
    response_model=HistoryPage,
    responses=document(errors.NotFound, errors.BadCursor, errors.UnknownModel),
)
def influences(database: DatabaseDep, caller: CallerDep, place: PlaceDep, chosen: WantedDep) -> Response:
    """Show when, in which tracks and with what score and share a song was found.

    To a rights-holder a track is an id, and its `external_id` where the platform shows it.
    """
    with reading(database) as session:
        held.require(session, tenant_id=caller.tenant_id, holder_id=caller.holder_id, song_id=chosen.song_id)
        found = history.page(session, tenant_id=caller.tenant_id, wanted=chosen, cursor=place.cursor, limit=place.limit)
        page = HistoryPage.of(found.items, found.next_cursor)
        shown = held.history(session, page, tenant_id=caller.tenant_id, holder_id=caller.holder_id)
    return answers.json(shown)


@router.get(
    "/{song_id}/influence-history",
    operation_id="getSongInfluenceHistory",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.HOLDER_READ)],
    summary="See a song's influence over time",
    response_model=HistorySeries,
    responses=document(errors.NotFound, errors.UnknownModel),
)
def influence_history(
    database: DatabaseDep, caller: CallerDep, chosen: WantedDep, bucket: Annotated[Bucket, Query()] = "day"
) -> Response:
    """Count a song's tracks, each once for each model, and sum its shares by day, week or month (UTC)."""
    with reading(database) as session:
        held.require(session, tenant_id=caller.tenant_id, holder_id=caller.holder_id, song_id=chosen.song_id)
        points = history.series(session, tenant_id=caller.tenant_id, wanted=chosen, bucket=bucket)
    shown = [HistoryPoint.model_validate(point) for point in points]
    return answers.json(HistorySeries(song_id=chosen.song_id, bucket=bucket, points=shown))


def _keep_audio(intake: Intake, tenant_id: str, song_id: str, file: IO[bytes]) -> Song:
    with reading(intake.db) as session:
        service.get(session, tenant_id=tenant_id, song_id=song_id)
    # A catalogue's recordings may be longer than what is attributed at once.
    limits = intake.settings.model_copy(update={"max_seconds": MAX_SONG_SECONDS})
    with receive(iter(partial(file.read, _CHUNK), b""), limits) as received:
        audio = keep(intake.storage, tenant_id, received)
    with transaction(intake.db) as session:
        claim(session, intake.storage, [audio.key])
        song = service.keep_audio(
            session, tenant_id=tenant_id, song_id=song_id, audio_key=audio.key, sha256=audio.sha256
        )
        return Song.model_validate(song)
