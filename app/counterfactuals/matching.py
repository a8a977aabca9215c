"""Which song is forgotten for comparison: another one by the same artist, or else one of about the same length."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.models import Matched, Song, TrainingSong

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

NEAREST = 10


def control(session: Session, *, model_id: str, song_id: str, draw: str) -> tuple[str, Matched] | None:
    """Return a song of the model's training set to compare with, and by what it is like; None where it has no other.

    Drawn at random from all others by the artist, else from the `NEAREST` of the nearest length in training; the same
    `draw` gives the same song.
    """
    others = (TrainingSong.model_id == model_id, TrainingSong.song_id != song_id)
    artist = select(Song.artist_plain).where(Song.id == song_id).scalar_subquery()
    trained = select(Song.id).join(TrainingSong, TrainingSong.song_id == Song.id).where(*others)
    alike = session.scalars(trained.where(Song.artist_plain == artist).order_by(Song.id)).all()
    if alike:
        return _drawn(alike, draw), Matched.ARTIST
    own = (TrainingSong.model_id == model_id, TrainingSong.song_id == song_id)
    segments = select(TrainingSong.segments).where(*own).scalar_subquery()
    apart = func.abs(TrainingSong.segments - segments)
    nearest = select(TrainingSong.song_id).where(*others).order_by(apart, TrainingSong.key).limit(NEAREST)
    near = session.scalars(nearest).all()
    return (_drawn(near, draw), Matched.LENGTH) if near else None


def _drawn(songs: Sequence[str], draw: str) -> str:
    return random.Random(draw).choice(songs)  # noqa: S311  (no secret)
