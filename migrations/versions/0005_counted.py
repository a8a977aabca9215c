"""A track counts once: which attribution of it sums are made of, also among those that have ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.attributions.counting import counts_as

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BATCH = 5_000
COLUMNS = ["tenant_id", "song_id", "created_at", "attribution_id"]
FIRST = """
UPDATE attributions SET counted = true WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY tenant_id, counts_as ORDER BY finished_at, id) AS place
        FROM attributions WHERE status = 'succeeded'
    ) AS ended WHERE place = 1
)
"""


def upgrade() -> None:
    op.add_column("attributions", sa.Column("counts_as", sa.String(64), nullable=False, server_default="unnamed"))
    op.add_column("attributions", sa.Column("counted", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("influences", sa.Column("counted", sa.Boolean(), nullable=False, server_default=sa.false()))
    _name(op.get_bind())
    op.execute(FIRST)
    op.execute(
        "UPDATE influences SET counted = true WHERE attribution_id IN (SELECT id FROM attributions WHERE counted)"
    )
    op.create_index(
        "uq_attributions_counted",
        "attributions",
        ["tenant_id", "counts_as"],
        unique=True,
        postgresql_where=sa.text("counted"),
        sqlite_where=sa.text("counted"),
    )
    op.drop_index("ix_influences_history", "influences")
    op.create_index("ix_influences_history", "influences", COLUMNS, postgresql_include=["share", "rank", "counted"])


def downgrade() -> None:
    op.drop_index("ix_influences_history", "influences")
    op.create_index("ix_influences_history", "influences", COLUMNS, postgresql_include=["share", "rank"])
    op.drop_index("uq_attributions_counted", "attributions")
    op.drop_column("influences", "counted")
    op.drop_column("attributions", "counted")
    op.drop_column("attributions", "counts_as")


def _name(connection: sa.Connection) -> None:
    models = sa.table("models", sa.column("id", sa.Text()), sa.column("name", sa.Text()))
    columns = (sa.column(name, sa.Text()) for name in ("id", "model_id", "external_id", "audio_sha256", "counts_as"))
    tracks = sa.table("attributions", *columns)
    shown = (
        sa.select(tracks.c.id, models.c.name, tracks.c.external_id, tracks.c.audio_sha256)
        .join_from(tracks, models, models.c.id == tracks.c.model_id)
        .order_by(tracks.c.id)
        .limit(BATCH)
    )
    naming = sa.update(tracks).where(tracks.c.id == sa.bindparam("of"))
    last = ""
    while found := connection.execute(shown.where(tracks.c.id > last)).all():
        connection.execute(naming, [{"of": row[0], "counts_as": counts_as(*row[1:])} for row in found])
        last = found[-1].id
