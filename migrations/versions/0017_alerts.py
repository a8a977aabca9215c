"""Thresholds of influence that a tenant wants to be told of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.db import UtcDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ONE_SUBJECT = (
    "CASE WHEN song_id IS NULL THEN 0 ELSE 1 END + CASE WHEN holder_id IS NULL THEN 0 ELSE 1 END"
    " + CASE WHEN artist IS NULL THEN 0 ELSE 1 END = 1"
)


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("song_id", sa.String(36)),
        sa.Column("holder_id", sa.String(36)),
        sa.Column("artist", sa.Text()),
        sa.Column("model", sa.String(200)),
        sa.Column("threshold", sa.Float(53), nullable=False),
        sa.Column("window_days", sa.Integer()),
        sa.Column("above", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("next_at", UtcDateTime()),
        sa.Column("crossed_at", UtcDateTime()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_alerts_tenant_id"),
        sa.CheckConstraint("threshold > 0", name=op.f("ck_alerts_threshold")),
        sa.CheckConstraint(ONE_SUBJECT, name=op.f("ck_alerts_subject")),
    )
    op.create_index("ix_alerts_tenant_id_id", "alerts", ["tenant_id", "id"])
    op.create_index("ix_alerts_next_at", "alerts", ["next_at"])


def downgrade() -> None:
    op.drop_table("alerts")
