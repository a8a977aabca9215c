"""A platform's tracks, and what each holder should have of them, reckoned here a second time and otherwise."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from app.catalogue import service as catalogue
from app.catalogue.rights import RECORDING_ROLES, RightFacts, parts
from app.catalogue.schemas import SongChanges, SongFacts
from app.db import Database, reading, transaction
from app.models import DEFAULT_TENANT, Attribution, ClosingTotal, Influence, StatementLine, Status, new_id
from app.statements import closing
from app.statements.amounts import UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from app.statements.closing import Closed

TENANT = DEFAULT_TENANT


def right(party: str, role: str, share: float) -> RightFacts:
    return RightFacts(party=party, role=role, share=share)  # type: ignore[arg-type]  # the words are checked there


@dataclass
class Track:
    """A track that ended at an instant, with the shares that songs have in it."""

    ended: datetime
    shares: Mapping[str, float]
    counted: bool = True
    id: str = field(default_factory=new_id)


def song(database: Database, key: str, *rights: RightFacts) -> str:
    """The id of a new song."""
    facts = SongFacts(key=key, title=f"Title {key}", artist="Artist", isrc="USSKG1912345", rights=list(rights))
    with transaction(database) as session:
        return catalogue.create(session, tenant_id=TENANT, facts=facts).id


def give(database: Database, song_id: str, *rights: RightFacts) -> None:
    """Change who holds a song."""
    with transaction(database) as session:
        catalogue.change(session, tenant_id=TENANT, song_id=song_id, changes=SongChanges(rights=list(rights)))


def add(database: Database, model_id: str, tracks: Sequence[Track]) -> None:
    """Write tracks as a worker would have left them."""
    owner = {"tenant_id": TENANT, "model_id": model_id}
    with transaction(database) as session:
        session.execute(
            insert(Attribution),
            [
                {
                    **owner,
                    "id": track.id,
                    "status": Status.SUCCEEDED,
                    "method": "index",
                    "top_k": 10,
                    "audio_key": "k",
                    "audio_sha256": track.id,
                    "audio_bytes": 1,
                    "counts_as": track.id,
                    "counted": track.counted,
                    **dict.fromkeys(("created_at", "finished_at", "expires_at"), track.ended),
                }
                for track in tracks
            ],
        )
        session.execute(
            insert(Influence),
            [
                {
                    **owner,
                    "attribution_id": track.id,
                    "song_id": song_id,
                    "rank": rank,
                    "score": 1.0,
                    "share": share,
                    "percentile": 50.0,
                    "counted": track.counted,
                    "created_at": track.ended,
                }
                for track in tracks
                for rank, (song_id, share) in enumerate(track.shares.items(), 1)
            ],
        )


def close(database: Database, month: str) -> Closed:
    with transaction(database) as session:
        return closing.close(session, tenant_id=TENANT, month=month)


Key = tuple[str, str, str]


def lines(database: Database, month: str | None = None) -> dict[Key, int]:
    """What was stated for a month (or for all) in all closings: amounts by song, holder's id and role."""
    query = select(StatementLine)
    if month is not None:
        query = query.where(StatementLine.month == month)
    found: dict[Key, int] = defaultdict(int)
    with reading(database) as session:
        for line in session.scalars(query):
            found[line.song_id, line.holder_id, line.role] += line.amount
    return {key: amount for key, amount in found.items() if amount}


def due(database: Database, tracks: Sequence[Track]) -> dict[Key, int]:
    """What should be stated of tracks, by the rights of now: every track by itself, in plain Python."""
    amounts: dict[str, int] = defaultdict(int)
    for track in tracks:
        for song_id, share in track.shares.items():
            amounts[song_id] += int(share * UNIT) if track.counted else 0
    owed: dict[Key, int] = defaultdict(int)
    with reading(database) as session:
        for song_id, amount in amounts.items():
            weights: dict[tuple[str, str], int] = defaultdict(int)
            for each in catalogue.get(session, tenant_id=TENANT, song_id=song_id).rights:
                weights[each.holder_id, each.role] += parts(each.share)
            for (holder, role), weight in weights.items():
                owed[song_id, holder, role] = amount * weight // 10**9
    return {key: amount for key, amount in owed.items() if amount}


def totals(database: Database, month: str) -> tuple[int, int, int, int]:
    """Tracks, attributed, recordings and works of a month, summed over all closings."""
    names = ("tracks", "attributed", "recordings", "works")
    with reading(database) as session:
        rows = session.scalars(select(ClosingTotal).where(ClosingTotal.month == month)).all()
    sums = [sum(getattr(row, name) for row in rows) for name in names]
    return sums[0], sums[1], sums[2], sums[3]


def by_side(stated: Mapping[Key, int]) -> tuple[int, int]:
    """The sums of recordings and of works."""
    recordings = sum(amount for (*_, role), amount in stated.items() if role in RECORDING_ROLES)
    return recordings, sum(stated.values()) - recordings
