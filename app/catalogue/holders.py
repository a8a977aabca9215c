"""The holders of rights: found or made from what songs state of their parties, and looked up.

A party with an IPI or an ISNI is the holder of that number, a party with neither the holder known by that name alone.
Nothing is guessed: two people may have one name, and money follows the row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, false, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import selectinload

from app import words
from app.cursor import PAGE_ROWS, Page, decode, encode
from app.cursor import page as cut
from app.db import now
from app.errors import HolderConflict, NotFound
from app.models import Holder, Right, Song, new_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from app.catalogue.rights import RightFacts

LONGEST_PLAIN = 400
"""Characters of a folded name that count: folding can lengthen one beyond what an index of Postgres holds."""

Mark = tuple[str, str]


class Party(NamedTuple):
    """Who holds a right, as it is stated."""

    name: str
    ipi: str | None = None
    isni: str | None = None

    @classmethod
    def of(cls, facts: RightFacts) -> Party:
        """The party of a stated right."""
        return cls(facts.party, facts.ipi, facts.isni)

    def marks(self) -> list[Mark]:
        """What it is known by."""
        numbers = [(kind, number) for kind, number in (("ipi", self.ipi), ("isni", self.isni)) if number]
        return numbers or [("name", folded(self.name))]


@dataclass(frozen=True)
class _Entry:
    """A holder as it is or will be; `stored` is what the database has of it, None of a new one."""

    id: str
    party: Party
    stored: Party | None


class Directory:
    """A tenant's holders, as far as some parties need them; what is new is written by `save`."""

    def __init__(self, session: Session, tenant_id: str) -> None:
        self._session, self.tenant_id = session, tenant_id
        self._known: dict[Mark, _Entry] = {}

    def load(self, parties: Iterable[Party]) -> None:
        """Read what is known of some parties."""
        marks = {mark for party in parties for mark in party.marks()} - self._known.keys()
        if not marks:
            return
        wanted: dict[str, list[str]] = {"ipi": [], "isni": [], "name": []}
        for kind, value in sorted(marks):
            wanted[kind].append(value)
        nameless = and_(Holder.ipi.is_(None), Holder.isni.is_(None), Holder.name_plain.in_(wanted["name"]))
        either = or_(Holder.ipi.in_(wanted["ipi"]), Holder.isni.in_(wanted["isni"]), nameless)
        columns = select(Holder.id, Holder.name, Holder.ipi, Holder.isni)
        for row in self._session.execute(columns.where(Holder.tenant_id == self.tenant_id, either)):
            party = Party(row.name, row.ipi, row.isni)
            self._known |= dict.fromkeys(party.marks(), _Entry(row.id, party, party))

    def admit(self, parties: Iterable[Party]) -> None:
        """Find, complete or make the holders of loaded parties, all or none; raises HolderConflict."""
        added: dict[Mark, _Entry] = {}
        for party in parties:
            entry = _completed(party, self._known | added)
            added |= dict.fromkeys(entry.party.marks(), entry)
        self._known |= added

    def id_of(self, party: Party) -> str:
        """The holder's id of an admitted party."""
        return self._known[party.marks()[0]].id

    def save(self) -> None:
        """Write new holders and identifiers that were learnt; raises HolderConflict where another took them first."""
        changed = [entry for entry in {e.id: e for e in self._known.values()}.values() if entry.stored != entry.party]
        if not changed:
            return
        try:
            with self._session.begin_nested():
                self._write(changed)
        except IntegrityError:  # another transaction made one of them meanwhile
            for entry in changed:
                for mark in entry.party.marks():
                    self._known.pop(mark)
            self._again([entry.party for entry in changed])
        else:
            for entry in changed:
                self._known |= dict.fromkeys(entry.party.marks(), replace(entry, stored=entry.party))

    def _again(self, parties: Sequence[Party]) -> None:
        self.load(parties)
        self.admit(parties)
        try:
            with self._session.begin_nested():
                self._write([entry for entry in self._known.values() if entry.stored != entry.party])
        except IntegrityError as error:
            raise HolderConflict("another change to the same rights-holders came between; try again") from error

    def _write(self, entries: Iterable[_Entry]) -> None:
        for entry in sorted({each.id: each for each in entries}.values(), key=lambda each: each.party.marks()):
            if entry.stored is None:
                self._session.execute(insert(Holder).values(**self._row(entry)))
            else:
                numbers = {"ipi": entry.party.ipi, "isni": entry.party.isni}
                self._session.execute(update(Holder).where(Holder.id == entry.id).values(numbers))

    def _row(self, entry: _Entry) -> dict[str, object]:
        return {
            "id": entry.id,
            "tenant_id": self.tenant_id,
            **entry.party._asdict(),
            "name_plain": folded(entry.party.name),
            "words": words.split(entry.party.name),
            "created_at": now(self._session),
        }


def folded(name: str) -> str:
    """A name without regard to case, accents, width and surplus space."""
    return words.plain(name)[:LONGEST_PLAIN]


def directory(session: Session, tenant_id: str, parties: Sequence[Party]) -> Directory:
    """The holders of some parties, written; raises HolderConflict."""
    found = Directory(session, tenant_id)
    found.load(parties)
    found.admit(parties)
    found.save()
    return found


def get(session: Session, *, tenant_id: str, holder_id: str) -> Holder:
    """Return a holder; raises NotFound, for another tenant's too."""
    found = session.scalar(select(Holder).where(Holder.id == holder_id, Holder.tenant_id == tenant_id))
    if found is None:
        raise NotFound(f"there is no rights-holder {holder_id}")
    return found


def page(
    session: Session, *, tenant_id: str, q: str | None = None, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Holder]:
    """Return holders in the order in which they came, those with the words of `q` in their name; raises BadCursor."""
    query = select(Holder).where(Holder.tenant_id == tenant_id)
    last = None if cursor is None else decode("holders", cursor, str)[0]
    if last is not None:
        query = query.where(Holder.id > last)
    if q is not None and q.strip():
        searched = words.split(q)
        query = query.where(words.first_holding(session, Holder, searched, last, limit + 1) if searched else false())
    found = list(session.scalars(query.order_by(Holder.id).limit(limit + 1)))
    return cut(found, limit, lambda holder: encode("holders", holder.id))


def songs(
    session: Session, *, tenant_id: str, holder_id: str, cursor: str | None = None, limit: int = PAGE_ROWS
) -> Page[Song]:
    """Return the songs that a holder has rights in, with all their rights; raises NotFound, BadCursor."""
    get(session, tenant_id=tenant_id, holder_id=holder_id)
    scope = f"holder:{holder_id}"
    held = select(Right.song_id).where(Right.holder_id == holder_id, Right.tenant_id == tenant_id)
    query = select(Song).where(Song.tenant_id == tenant_id, Song.id.in_(held)).options(selectinload(Song.rights))
    if cursor is not None:
        (last,) = decode(scope, cursor, str)
        query = query.where(Song.id > last)
    found = list(session.scalars(query.order_by(Song.id).limit(limit + 1)))
    return cut(found, limit, lambda song: encode(scope, song.id))


def _completed(party: Party, known: dict[Mark, _Entry]) -> _Entry:
    """The holder that a party is, with what the party tells of it. Raises HolderConflict."""
    found = {entry.id: entry for mark in party.marks() if (entry := known.get(mark))}
    if len(found) > 1:
        raise HolderConflict(f"the IPI {party.ipi} and the ISNI {party.isni} belong to two rights-holders")
    if not found:
        return _Entry(new_id(), party, None)
    (entry,) = found.values()
    for name, stated, stored in (("IPI", party.ipi, entry.party.ipi), ("ISNI", party.isni, entry.party.isni)):
        if stated and stored and stated != stored:
            raise HolderConflict(f"{entry.party.name} has the {name} {stored}, not {stated}")
    known_of = entry.party
    return replace(entry, party=Party(known_of.name, party.ipi or known_of.ipi, party.isni or known_of.isni))
