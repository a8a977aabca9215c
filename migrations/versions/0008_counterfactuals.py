"""Counterfactuals: one song forgotten for one attribution; and the seed that a track was generated from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.db import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INSTANT = UtcDateTime()
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
STATUS = "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')"


def upgrade() -> None:
    op.add_column("attributions", sa.Column("seed", sa.Integer()))
    op.create_table(
        "counterfactuals",
        *_what_is_asked(),
        *_lease(),
        *_result(),
        sa.PrimaryKeyConstraint("id", name="pk_counterfactuals"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_counterfactuals_tenant_id"),
        sa.ForeignKeyConstraint(
            ["attribution_id"], ["attributions.id"], name="fk_counterfactuals_attribution_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["song_id"], ["songs.id"], name="fk_counterfactuals_song_id"),
        sa.ForeignKeyConstraint(["control_song_id"], ["songs.id"], name="fk_counterfactuals_control_song_id"),
        sa.CheckConstraint(STATUS, name=op.f("ck_counterfactuals_status")),
        sa.CheckConstraint("control_match IN ('artist', 'length')", name=op.f("ck_counterfactuals_control_match")),
        sa.CheckConstraint("progress >= 0 AND progress <= 1", name=op.f("ck_counterfactuals_progress")),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_counterfactuals_attempts")),
        sa.CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name=op.f("ck_counterfactuals_lease")),
    )
    listed = ["tenant_id", "attribution_id", "created_at", "id"]
    op.create_index(f"ix_counterfactuals_{'_'.join(listed)}", "counterfactuals", listed)
    for name, column in (("ring", "next_ring_at"), ("lease", "lease_until"), ("expiry", "expires_at")):
        op.create_index(f"ix_counterfactuals_status_{name}", "counterfactuals", ["status", column])


def downgrade() -> None:
    op.drop_table("counterfactuals")
    op.drop_column("attributions", "seed")


def _what_is_asked() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("attribution_id", sa.String(36), nullable=False),
        sa.Column("song_id", sa.String(36), nullable=False),
        sa.Column("control_song_id", sa.String(36)),
        sa.Column("control_match", sa.String(16)),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
    )


def _lease() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16)),
        sa.Column("progress", sa.Float(53), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(36)),
        sa.Column("lease_until", INSTANT),
        sa.Column("worker_id", sa.String(36)),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("not_before", INSTANT),
        sa.Column("next_ring_at", INSTANT),
        sa.Column("rings", sa.Integer(), nullable=False),
    )


def _result() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("error_type", sa.String(64)),
        sa.Column("error_detail", sa.Text()),
        sa.Column("result", JSON, nullable=False),
        sa.Column("audio", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("expires_at", INSTANT, nullable=False),
    )
