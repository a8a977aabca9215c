"""The registered models: a folder's facts and training set, read once, and looked up ever after."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.catalogue import importing
from app.cursor import Page, decode, encode
from app.cursor import page as cut
from app.db import now
from app.errors import InvalidModel, InvalidRequest, NotFound
from app.models import Attribution, Model, Status, Tenant, TrainingSong, new_id

_MANIFEST = "index/manifest.json"
_SONGS = "songs.csv"
_BATCH = 500

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class IndexedSong(BaseModel):
    """How many segments of a song the index holds."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    segments: int = Field(ge=0)


class Manifest(BaseModel):
    """What `index/manifest.json` must say; whatever else it says is kept as the model's details."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    format: Literal[2, 3]
    model_digest: Digest
    index_digest: Digest
    segment_seconds: float = Field(gt=0)
    songs: list[IndexedSong] = Field(min_length=1)

    @property
    def details(self) -> dict[str, Any]:
        """Everything that has no column of its own, but for the index's own files."""
        return {name: value for name, value in (self.model_extra or {}).items() if name not in {"files", "shards"}}


def register_model(
    session: Session, tenant_id: str, folder: Path, name: str | None = None, ident: str | None = None
) -> Model:
    """Register the model in a folder under a name (the folder's own, unless given), with its training set.

    Songs are created or completed by their key. The same index under the same name is registered once: the second call
    only notes where the folder is now. Attributions that wait for an earlier index of the same weights go to the new
    one, so that a song that was taken down is not ranked any more. Raises InvalidModel where a file is missing or
    malformed.
    """
    folder, name = folder.resolve(), name or folder.resolve().name
    manifest = _manifest(folder)
    # One registration at a time per tenant, so that two processes starting together do not both insert.
    session.scalar(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update())
    known = (Model.tenant_id == tenant_id, Model.name == name, Model.index_digest == manifest.index_digest)
    model = session.scalar(select(Model).where(*known))
    if model is None:
        model = _add(session, tenant_id, name, manifest, ident or new_id())
        _pass_on(session, model)
        _add_training_set(session, model, manifest, _sheet(folder, manifest))
    if model.model_digest != manifest.model_digest:
        raise InvalidModel(f"{folder}: this index is registered with another model")
    model.folder = str(folder)
    return model


def get(session: Session, *, tenant_id: str, named: str) -> Model:
    """Return a model by its id or name, the newest of that name; raises NotFound."""
    either = or_(Model.id == named, Model.name == named)
    newest = select(Model).where(Model.tenant_id == tenant_id, either).order_by(Model.id.desc()).limit(1)
    found = session.scalar(newest)
    if found is None:
        raise NotFound(f"there is no model {named}")
    return found


def page(session: Session, *, tenant_id: str, cursor: str | None = None, limit: int = 50) -> Page[Model]:
    """Return models, the newest first; raises BadCursor."""
    query = select(Model).where(Model.tenant_id == tenant_id)
    if cursor is not None:
        (last,) = decode("models", cursor, str)
        query = query.where(Model.id < last)
    found = list(session.scalars(query.order_by(Model.id.desc()).limit(limit + 1)))
    return cut(found, limit, lambda model: encode("models", model.id))


def indexed(session: Session, *, models: Sequence[str]) -> dict[str, int]:
    """Return, for each model id, how many songs of its training set the index holds segments of."""
    counts = (
        select(TrainingSong.model_id, func.count())
        .where(TrainingSong.model_id.in_(models), TrainingSong.segments > 0)
        .group_by(TrainingSong.model_id)
    )
    return {row[0]: row[1] for row in session.execute(counts)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"{path}: {error.strerror}") from error


def _manifest(folder: Path) -> Manifest:
    path = folder / _MANIFEST
    try:
        return Manifest.model_validate_json(_read(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidModel(f"{path}: {'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from error


def _sheet(folder: Path, manifest: Manifest) -> importing.Sheet:
    path = folder / _SONGS
    try:
        sheet = importing.parse(_read(path))
    except InvalidRequest as error:
        raise InvalidModel(f"{path}: {error.detail}") from error
    if sheet.errors:
        first = sheet.errors[0]
        raise InvalidModel(f"{path}, line {first.line}: {first.field}: {first.message}")
    absent = {song.key for song in manifest.songs} - {line.key for line in sheet.lines}
    if absent:
        raise InvalidModel(f"{path}: says nothing of {len(absent)} indexed songs, such as {min(absent)!r}")
    return sheet


def _pass_on(session: Session, newest: Model) -> None:
    earlier = select(Model.id).where(
        Model.tenant_id == newest.tenant_id, Model.name == newest.name, Model.model_digest == newest.model_digest
    )
    waiting = (Attribution.status == Status.QUEUED, Attribution.model_id.in_(earlier))
    session.flush()
    session.execute(update(Attribution).where(*waiting).values(model_id=newest.id))


def _add(session: Session, tenant_id: str, name: str, manifest: Manifest, ident: str) -> Model:
    model = Model(
        id=ident,
        tenant_id=tenant_id,
        name=name,
        folder="",
        model_digest=manifest.model_digest,
        index_digest=manifest.index_digest,
        segment_seconds=manifest.segment_seconds,
        segments=sum(song.segments for song in manifest.songs),
        songs=0,
        details=manifest.details,
        created_at=now(session),
    )
    session.add(model)
    return model


def _add_training_set(session: Session, model: Model, manifest: Manifest, sheet: importing.Sheet) -> None:
    stored = importing.store(session, tenant_id=model.tenant_id, sheet=sheet)
    if stored.errors:
        first = stored.errors[0]
        raise InvalidModel(f"{_SONGS}, line {first.line}: {first.field}: {first.message}")
    segments = {song.key: song.segments for song in manifest.songs}
    keys = [line.key for line in sheet.lines]
    model.songs = len(keys)
    for start in range(0, len(keys), _BATCH):
        songs = importing.by_key(session, tenant_id=model.tenant_id, keys=keys[start : start + _BATCH])
        rows = [
            {
                "model_id": model.id,
                "tenant_id": model.tenant_id,
                "key": key,
                "song_id": song.id,
                "segments": segments.get(key, 0),
            }
            for key, song in songs.items()
        ]
        session.execute(insert(TrainingSong), rows)
