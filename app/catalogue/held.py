"""What a rights-holder sees of a catalogue: the songs that it holds rights in, and which tracks they were found in.

Not the other songs of those tracks, not what the model was told, and of the tracks themselves no name but an id; their
`external_id` where the tenant shows it. Without a holder everything is a tenant's own to see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.catalogue.schemas import HistoryPage, Song
from app.errors import NotFound
from app.models import Right, Tenant

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.models import Song as Row


def require(session: Session, *, tenant_id: str, holder_id: str | None, song_id: str) -> None:
    """Raise NotFound where a holder has no right in a song."""
    if holder_id is None:
        return
    own = select(Right.id).where(Right.tenant_id == tenant_id, Right.holder_id == holder_id, Right.song_id == song_id)
    if session.scalar(own.limit(1)) is None:
        raise NotFound(f"there is no song {song_id}")


def song(row: Row, holder_id: str | None) -> Song:
    """Return a song as the interface shows it; to a holder, with the holder's own rights alone."""
    shown = Song.model_validate(row)
    if holder_id is None:
        return shown
    own = [right for right, stored in zip(shown.rights, row.rights, strict=True) if stored.holder_id == holder_id]
    return shown.model_copy(update={"rights": own})


def history(session: Session, shown: HistoryPage, *, tenant_id: str, holder_id: str | None) -> HistoryPage:
    """Return a song's history as a holder may see it: no file names, external ids only where the tenant shows them."""
    if holder_id is None:
        return shown
    hidden: dict[str, None] = {"filename": None}
    if not session.scalar(select(Tenant.shows_external_ids).where(Tenant.id == tenant_id)):
        hidden["external_id"] = None
    for item in shown.items:
        item.attribution = item.attribution.model_copy(update=hidden)
    return shown
