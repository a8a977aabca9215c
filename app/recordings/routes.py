"""Recordings over HTTP: whole or in part, so that a player can jump; and their waveforms."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response, status
from fastapi.responses import StreamingResponse

from app import answers, errors
from app.access.scopes import Scope
from app.audio import Limits
from app.catalogue.routes import MAX_SONG_SECONDS
from app.db import reading, transaction
from app.deps import CallerDep, IntakeDep, needs
from app.problems import document, respond
from app.recordings import ranges, service
from app.recordings.ranges import RangeNotSatisfiable
from app.recordings.schemas import Waveform
from app.recordings.service import NoRecording, Recording
from app.recordings.waveforms import Waveforms
from app.retention import erasing
from app.storage import Storage

router = APIRouter(prefix="/v1", tags=["recordings"])

_START_BYTES = 16
_BINARY: dict[str, Any] = {"content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}}}
AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"description": "The recording as it was sent."} | _BINARY,
    206: {"description": "The bytes that `Range` asked for."} | _BINARY,
    304: {"description": "Nothing has changed since the given ETag."},
}
FAILURES = (errors.NotFound, errors.AudioMissing, errors.Unavailable)


@dataclass(frozen=True)
class Asked:
    """Which bytes are asked for, and under which conditions."""

    range: str | None
    if_range: str | None
    if_none_match: str


async def asked(
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes, `bytes=0-1023`.")] = None,
    if_range: Annotated[str | None, Header(description="Answer with a part only if this is the ETag.")] = None,
    if_none_match: Annotated[str, Header(description="An ETag of an earlier answer.")] = "",
) -> Asked:
    """Read the conditions of a request."""
    return Asked(range_, if_range, if_none_match)


async def waveforms_of(request: Request) -> Waveforms:
    """Return the waveforms that the application keeps."""
    kept: Waveforms = request.app.state.waveforms
    return kept


AskedDep = Annotated[Asked, Depends(asked)]
WaveformsDep = Annotated[Waveforms, Depends(waveforms_of)]


@router.get(
    "/attributions/{attribution_id}/audio",
    operation_id="getTrackAudio",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="Hear a track",
    response_class=StreamingResponse,
    responses=document(*FAILURES, RangeNotSatisfiable) | AUDIO,
)
def track_audio(
    request: Request, intake: IntakeDep, caller: CallerDep, attribution_id: str, conditions: AskedDep
) -> Response:
    """Send the track as it was uploaded, or the one range of it that is asked for."""
    with reading(intake.db) as session:
        found = service.of_track(session, tenant_id=caller.tenant_id, attribution_id=attribution_id)
    return sent(request, intake.storage, found, conditions)


@router.get(
    "/songs/{song_id}/audio",
    operation_id="getSongAudio",
    dependencies=[needs(Scope.CATALOGUE_READ)],
    summary="Hear a song",
    response_class=StreamingResponse,
    responses=document(*FAILURES, NoRecording, RangeNotSatisfiable) | AUDIO,
)
def song_audio(request: Request, intake: IntakeDep, caller: CallerDep, song_id: str, conditions: AskedDep) -> Response:
    """Send the song's recording where one is held, or the one range of it that is asked for."""
    with reading(intake.db) as session:
        found = service.of_song(session, tenant_id=caller.tenant_id, song_id=song_id)
    return sent(request, intake.storage, found, conditions)


@router.delete(
    "/attributions/{attribution_id}/audio",
    operation_id="eraseTrackAudio",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
    summary="Erase an upload",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=document(errors.NotFound, erasing.NotEnded, errors.Unavailable),
)
def erase_track(intake: IntakeDep, caller: CallerDep, attribution_id: str) -> None:
    """Erase the recording that was sent; its result stays. Again, nothing happens.

    The bytes go with the last attribution that was made of them. A job that has not ended has to be canceled first.
    """
    with transaction(intake.db) as session:
        erasing.erase_track(
            session, intake.db, intake.storage, tenant_id=caller.tenant_id, attribution_id=attribution_id
        )


@router.delete(
    "/songs/{song_id}/audio",
    operation_id="eraseSongAudio",
    dependencies=[needs(Scope.CATALOGUE_WRITE)],
    summary="Erase a song's recording",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=document(errors.NotFound, errors.Unavailable),
)
def erase_song(intake: IntakeDep, caller: CallerDep, song_id: str) -> None:
    """Erase the stored recording of a song; the song stays, and so does what was computed. Again, nothing happens."""
    with transaction(intake.db) as session:
        erasing.erase_song(session, intake.db, intake.storage, tenant_id=caller.tenant_id, song_id=song_id)


@router.get(
    "/attributions/{attribution_id}/waveform",
    operation_id="getTrackWaveform",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See how loud a track is over time",
    response_model=Waveform,
    responses=document(*FAILURES),
)
def track_waveform(intake: IntakeDep, caller: CallerDep, waveforms: WaveformsDep, attribution_id: str) -> Response:
    """Show the track's peaks in equal parts of its length."""
    with reading(intake.db) as session:
        found = service.of_track(session, tenant_id=caller.tenant_id, attribution_id=attribution_id)
    return answers.json(Waveform.of(waveforms.of(intake.storage, found.key, found.sha256, Limits.of(intake.settings))))


@router.get(
    "/songs/{song_id}/waveform",
    operation_id="getSongWaveform",
    dependencies=[needs(Scope.CATALOGUE_READ)],
    summary="See how loud a song is over time",
    response_model=Waveform,
    responses=document(*FAILURES, NoRecording),
)
def song_waveform(intake: IntakeDep, caller: CallerDep, waveforms: WaveformsDep, song_id: str) -> Response:
    """Show the peaks of a song's recording, where one is held, in equal parts of its length."""
    with reading(intake.db) as session:
        found = service.of_song(session, tenant_id=caller.tenant_id, song_id=song_id)
    limits = Limits.of(intake.settings.model_copy(update={"max_seconds": MAX_SONG_SECONDS}))
    return answers.json(Waveform.of(waveforms.of(intake.storage, found.key, found.sha256, limits)))


def sent(request: Request, storage: Storage, found: Recording, conditions: Asked) -> Response:
    """Answer with a recording, whole or the range that is asked for, as its own digest and kind."""
    etag = f'"{found.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    headers |= {"X-Content-Type-Options": "nosniff", "Content-Disposition": "inline"}
    if etag in {each.strip().removeprefix("W/") for each in conditions.if_none_match.split(",")}:
        return Response(status_code=304, headers=headers)
    size = storage.size(found.key)
    try:
        part = ranges.part(conditions.range if conditions.if_range in {None, etag} else None, size)
    except RangeNotSatisfiable as error:
        return respond(request, error, {"Content-Range": f"bytes */{size}"})
    kind = ranges.media_type(b"".join(storage.read(found.key, 0, min(_START_BYTES, size))))
    if part is None:
        return _stream(storage.read(found.key), 200, headers | {"Content-Length": str(size)}, kind)
    headers |= {"Content-Range": part.content_range, "Content-Length": str(part.end - part.start)}
    return _stream(storage.read(found.key, part.start, part.end), 206, headers, kind)


def _stream(pieces: Iterator[bytes], status: int, headers: dict[str, str], kind: str) -> Response:
    """Read the first piece before the answer begins, so that what cannot be read is still a problem document."""
    return StreamingResponse(chain([next(pieces, b"")], pieces), status, headers, kind)
