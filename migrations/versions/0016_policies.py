"""What was allowed with a song, and when; what songs say so far is taken to have held always."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.db import UtcDateTime
from app.models import new_id

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

BATCH = 5_000


def upgrade() -> None:
    policies = op.create_table(
        "song_policies",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("song_id", sa.String(36), nullable=False),
        sa.Column("policy", sa.String(16), nullable=False),
        sa.Column("valid_from", UtcDateTime()),
        sa.Column("valid_to", UtcDateTime()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("policy IN ('allow', 'limit', 'block')", name="ck_song_policies_policy"),
        sa.CheckConstraint("valid_from < valid_to", name="ck_song_policies_order"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_song_policies_tenant_id"),
        sa.ForeignKeyConstraint(["song_id"], ["songs.id"], name="fk_song_policies_song_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_song_policies"),
    )
    op.create_index("ix_song_policies_song_id", "song_policies", ["song_id"])
    op.create_index("ix_song_policies_tenant_id_song_id_id", "song_policies", ["tenant_id", "song_id", "id"])
    _fill(op.get_bind(), policies)


def downgrade() -> None:
    op.drop_table("song_policies")


def _fill(connection: sa.Connection, policies: sa.Table) -> None:
    texts = ("id", "tenant_id", "training_policy")
    columns = [*(sa.column(name, sa.Text()) for name in texts), sa.column("updated_at", UtcDateTime())]
    songs = sa.table("songs", *columns)
    shown = sa.select(*columns).order_by(songs.c.id).limit(BATCH)
    last = ""
    while found := connection.execute(shown.where(songs.c.id > last)).all():
        rows = [
            {
                "id": new_id(),
                "tenant_id": row.tenant_id,
                "song_id": row.id,
                "policy": row.training_policy,
                "created_at": row.updated_at,
            }
            for row in found
        ]
        connection.execute(sa.insert(policies), rows)
        last = found[-1].id
