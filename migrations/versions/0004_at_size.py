"""What many songs and tenants need: lists by keyset, searched words by index; batches, turns, quotas and metering."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from app import words
from app.db import UtcDateTime
from app.words import Words

revision = "0004"
down_revision = "0003"
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
    _batches()
    _use()


def downgrade() -> None:
    op.drop_table("usage")
    op.drop_table("quotas")
    op.drop_column("tenants", "turn")
    op.drop_index("uq_attributions_batch", "attributions")
    op.drop_index("ix_attributions_tenant_id_audio_sha256", "attributions")
    op.drop_column("attributions", "custom_id")
    op.drop_column("attributions", "batch")
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


def _batches() -> None:
    op.add_column("attributions", sa.Column("batch", sa.String(100)))
    op.add_column("attributions", sa.Column("custom_id", sa.String(200)))
    op.create_index("ix_attributions_tenant_id_audio_sha256", "attributions", ["tenant_id", "audio_sha256"])
    op.create_index(
        "uq_attributions_batch",
        "attributions",
        ["tenant_id", "batch", "custom_id"],
        unique=True,
        postgresql_where=sa.text("batch IS NOT NULL"),
        sqlite_where=sa.text("batch IS NOT NULL"),
    )


def _use() -> None:
    op.add_column("tenants", sa.Column("turn", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "quotas",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("requests_per_minute", sa.Integer()),
        sa.Column("jobs_per_month", sa.Integer()),
        sa.Column("minute", UtcDateTime()),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_quotas_tenant_id"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_quotas"),
    )
    op.create_table(
        "usage",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("audio_s", sa.Float(53), nullable=False),
        sa.Column("device_s", sa.Float(53), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_usage_tenant_id"),
        sa.PrimaryKeyConstraint("tenant_id", "month", name="pk_usage"),
    )


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
