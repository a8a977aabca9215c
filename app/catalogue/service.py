"""The songs of a catalogue: created, changed, found. Functions over a session; none of them commits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, false, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from app import words
from app.catalogue import holders, identifiers, policies
from app.catalogue.holders import Directory, Party
from app.catalogue.policies import Stated
from app.catalogue.schemas import SongChanges, SongFacts
from app.cursor import PAGE_ROWS, Page, decode, encode
from app.cursor import page as cut
from app.db import now
from app.errors import Conflict, InvalidRequest, NotFound
from app.models import Right, Song, SongPolicy, TrainingPolicy, new_id

_RIGHT_FIELDS = ("party", "role", "ipi", "isni", "share")
_POLICY = ("training_policy", "policy_from", "policy_to")
_DATES = frozenset(_POLICY[1:])


@dataclass(frozen=True)
class SongFilter:
    """Which songs to list: an ISRC in any notation, an artist's whole name, words, one key, those of a holder."""

    isrc: str | None = None
    artist: str | None = None
    q: str | None = None
    key: str | None = None
    holder_id: str | None = None


def create(session: Session, *, tenant_id: str, facts: SongFacts, ident: str | None = None) -> Song:
    """Add a song to the catalogue, or find it under `ident`; raises Conflict where its key is taken, HolderConflict."""
    mine = select(Song).where(Song.id == ident, Song.tenant_id == tenant_id).options(selectinload(Song.rights))
    if ident is not None and (made := session.scalar(mine)) is not None:
        return made
    directory = holders.directory(session, tenant_id, [Party.of(right) for right in facts.rights])
    song = build(session, tenant_id=tenant_id, facts=facts, directory=directory, ident=ident)
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"a song with the key {song.key!r} exists already") from error
    return song


def build(
    session: Session, *, tenant_id: str, facts: SongFacts, directory: Directory, ident: str | None = None
) -> Song:
    """Make a song of its facts and add it to the session; the directory knows its parties."""
    moment, ident = now(session), ident or new_id()
    song = Song(id=ident, tenant_id=tenant_id, key=facts.key or ident, rights=[], created_at=moment, updated_at=moment)
    for name, value in facts.model_dump(exclude={"key", "rights", *_POLICY}).items():
        setattr(song, name, value)
    # Until something is stated to hold, nothing is allowed.
    song.training_policy = TrainingPolicy.BLOCK
    policies.state(session, song, Stated(facts.training_policy, facts.policy_from, facts.policy_to))
    song.rights = _rights(tenant_id, facts.model_dump()["rights"], directory)
    session.add(song)
    return song


def get(session: Session, *, tenant_id: str, song_id: str) -> Song:
    """Return a song with its rights; raises NotFound, for another tenant's song too."""
    found = session.scalar(
        select(Song).where(Song.id == song_id, Song.tenant_id == tenant_id).options(selectinload(Song.rights))
    )
    if found is None:
        raise NotFound(f"there is no song {song_id}")
    return found


def change(session: Session, *, tenant_id: str, song_id: str, changes: SongChanges) -> Song:
    """Change the facts that were given; raises NotFound, HolderConflict."""
    song = get(session, tenant_id=tenant_id, song_id=song_id)
    directory = holders.directory(session, tenant_id, [Party.of(right) for right in changes.rights or ()])
    given = stated(changes)
    last = policies.latest(session, [song_id]).get(song_id) if _DATES & given.keys() else None
    assign(session, song, differences(song, given, last), directory)
    return song


def page(
    session: Session, *, tenant_id: str, wanted: SongFilter, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Song]:
    """Return songs in order of their creation; raises BadCursor, InvalidRequest."""
    query = select(Song).where(Song.tenant_id == tenant_id, *_conditions(wanted)).options(selectinload(Song.rights))
    last = None if cursor is None else decode("songs", cursor, str)[0]
    if last is not None:
        query = query.where(Song.id > last)
    if wanted.q is not None and wanted.q.strip():
        query = query.where(_holding(session, wanted, last, limit + 1))
    found = list(session.scalars(query.order_by(Song.id).limit(limit + 1)))
    return cut(found, limit, lambda song: encode("songs", song.id))


def keep_audio(session: Session, *, tenant_id: str, song_id: str, audio_key: str, sha256: str) -> Song:
    """Note where a song's recording is stored; raises NotFound."""
    song = get(session, tenant_id=tenant_id, song_id=song_id)
    assign(session, song, differences(song, {"audio_key": audio_key, "audio_sha256": sha256}))
    return song


def stated(facts: SongFacts | SongChanges) -> dict[str, Any]:
    """Dump those facts that were given, each whole."""
    return {name: value for name, value in facts.model_dump().items() if name in facts.model_fields_set}


def differences(song: Song, facts: Mapping[str, Any], last: SongPolicy | None = None) -> dict[str, Any]:
    """Return those facts (as dumped from a schema) that are not already so.

    last: what was stated last of the song's training policy; it is needed where the facts say from when one holds.
    """
    changed = {name: value for name, value in facts.items() if name not in _POLICY and _fact(song, name) != value}
    policy = {name: facts[name] for name in _POLICY if name in facts}
    if not _DATES & policy.keys():
        same = policy.get("training_policy", song.training_policy) == song.training_policy
    else:
        said = tuple(policy.get(name) for name in _POLICY)
        same = last is not None and (last.policy, last.valid_from, last.valid_to) == said
    return changed if same else changed | policy


def assign(session: Session, song: Song, facts: Mapping[str, Any], directory: Directory | None = None) -> None:
    """Write facts (as dumped from a schema) to a song; without any, it stays as it was.

    The directory knows the parties of the rights, where there are any among the facts.
    """
    for name, value in facts.items():
        if name in _POLICY:
            continue
        written = _rights(song.tenant_id, value, directory) if name == "rights" and directory else value
        setattr(song, name, written)
    if "training_policy" in facts:
        since = facts.get("policy_from") if _DATES & facts.keys() else now(session)
        policies.state(session, song, Stated(facts["training_policy"], since, facts.get("policy_to")))
    if facts:
        song.updated_at = now(session)


def _fact(song: Song, name: str) -> Any:
    if name != "rights":
        return getattr(song, name)
    return [{field: getattr(right, field) for field in _RIGHT_FIELDS} for right in song.rights]


def _rights(tenant_id: str, dumped: list[dict[str, Any]], directory: Directory) -> list[Right]:
    return [
        Right(id=new_id(), tenant_id=tenant_id, holder_id=directory.id_of(_party(right)), **right) for right in dumped
    ]


def _party(right: Mapping[str, Any]) -> Party:
    return Party(right["party"], right["ipi"], right["isni"])


def _conditions(wanted: SongFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.isrc is not None:
        try:
            conditions.append(Song.isrc == identifiers.isrc(wanted.isrc))
        except ValueError as error:
            raise InvalidRequest(f"isrc: {error}") from error
    if wanted.key is not None:
        conditions.append(Song.key == wanted.key)
    if wanted.artist is not None:
        conditions.append(Song.artist_plain == words.plain(wanted.artist))
    if wanted.holder_id is not None:
        conditions.append(Song.id.in_(select(Right.song_id).where(Right.holder_id == wanted.holder_id)))
    return conditions


def _holding(session: Session, wanted: SongFilter, after: str | None, rows: int) -> ColumnElement[bool]:
    searched = words.split(wanted.q or "")
    if not searched:
        return false()
    if wanted == SongFilter(q=wanted.q):
        return words.first_holding(session, Song, searched, after, rows)
    return words.holding(session, Song.words, searched)
