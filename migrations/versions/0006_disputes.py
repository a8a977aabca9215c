"""Disputes of rows of a result, and what a review made of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.db import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = UtcDateTime()
OPEN = sa.text("outcome IS NULL")


def upgrade() -> None:
    op.create_table(
        "disputes",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("attribution_id", sa.String(36), nullable=False),
        sa.Column("song_id", sa.String(36), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raised_by", sa.String(200), nullable=False),
        sa.Column("raised_key", sa.String(36)),
        sa.Column("raised_at", INSTANT, nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.Column("note", sa.Text()),
        sa.Column("resolved_by", sa.String(200)),
        sa.Column("resolved_key", sa.String(36)),
        sa.Column("resolved_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_disputes"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_disputes_tenant_id"),
        sa.ForeignKeyConstraint(
            ["attribution_id"], ["attributions.id"], name="fk_disputes_attribution_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["song_id"], ["songs.id"], name="fk_disputes_song_id"),
        sa.CheckConstraint("outcome IN ('upheld', 'rejected')", name=op.f("ck_disputes_outcome")),
        sa.CheckConstraint("(outcome IS NULL) = (resolved_at IS NULL)", name=op.f("ck_disputes_resolved")),
    )
    op.create_index("ix_disputes_song_id", "disputes", ["song_id"])
    op.create_index("ix_disputes_tenant_id_attribution_id_id", "disputes", ["tenant_id", "attribution_id", "id"])
    op.create_index(
        "uq_disputes_open",
        "disputes",
        ["attribution_id", "song_id"],
        unique=True,
        postgresql_where=OPEN,
        sqlite_where=OPEN,
    )


def downgrade() -> None:
    op.drop_table("disputes")
