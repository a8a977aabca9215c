"""What large catalogues need: lists and histories by keyset, searched words and artists by index."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from app import words
from app.words import Words

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

BATCH = 5_000


def upgrade() -> None:
    _search()
    op.create_index("ix_songs_tenant_id_id", "songs", ["tenant_id", "id"])
    op.create_index(
        "ix_attributions_tenant_id_status_created_at_id", "attributions", ["tenant_id", "status", "created_at", "id"]
    )
    op.create_index("ix_attributions_model_id_created_at_id", "attributions", ["model_id", "created_at", "id"])
    op.drop_index("ix_attributions_model_id", "attributions")
    op.drop_index("ix_influences_history", "influences")
    op.create_index(
        "ix_influences_history",
        "influences",
        ["tenant_id", "song_id", "created_at", "attribution_id"],
        postgresql_include=["share", "rank"],
    )


def downgrade() -> None:
    op.drop_index("ix_influences_history", "influences")
    op.create_index("ix_influences_history", "influences", ["tenant_id", "song_id", "created_at", "attribution_id"])
    op.create_index("ix_attributions_model_id", "attributions", ["model_id"])
    op.drop_index("ix_attributions_model_id_created_at_id", "attributions")
    op.drop_index("ix_attributions_tenant_id_status_created_at_id", "attributions")
    op.drop_index("ix_songs_tenant_id_id", "songs")
    op.drop_index("ix_songs_tenant_id_artist_plain_id", "songs")
    op.create_index("ix_songs_tenant_id_artist", "songs", ["tenant_id", "artist"])
    if op.get_context().dialect.name == "postgresql":
        op.drop_index("ix_songs_words", "songs")
    op.drop_column("songs", "words")
    op.drop_column("songs", "artist_plain")


def _search() -> None:
    """Add what is searched, for the songs that there are too."""
    op.add_column("songs", sa.Column("artist_plain", sa.Text()))
    op.add_column("songs", sa.Column("words", Words()))
    _derive(op.get_bind())
    op.drop_index("ix_songs_tenant_id_artist", "songs")
    op.create_index("ix_songs_tenant_id_artist_plain_id", "songs", ["tenant_id", "artist_plain", "id"])
    if op.get_context().dialect.name == "postgresql":
        op.create_index("ix_songs_words", "songs", ["words"], postgresql_using="gin")


def _derive(connection: sa.Connection) -> None:
    songs = sa.table(
        "songs",
        *(sa.column(name, sa.Text()) for name in ("id", "key", "title", "artist", "artist_plain")),
        sa.column("words", Words()),
    )
    shown = sa.select(songs.c.id, songs.c.key, songs.c.title, songs.c.artist).order_by(songs.c.id).limit(BATCH)
    derived = sa.update(songs).where(songs.c.id == sa.bindparam("of"))
    last = ""
    while found := connection.execute(shown.where(songs.c.id > last)).all():
        connection.execute(derived, [_values(row) for row in found])
        last = found[-1].id


def _values(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "of": row.id,
        "artist_plain": words.plain(row.artist),
        "words": words.split(row.title, row.artist, row.key),
    }
