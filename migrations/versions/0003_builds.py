"""Builds of indexes and their pieces; an attribution can repeat another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.db import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = UtcDateTime()
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
STATUS = "status IN ('queued', 'running', 'succeeded', 'failed')"


def upgrade() -> None:
    op.add_column("attributions", sa.Column("repeats", sa.String(36)))
    _builds()
    _pieces()


def downgrade() -> None:
    op.drop_table("build_pieces")
    op.drop_table("builds")
    op.drop_column("attributions", "repeats")


def _builds() -> None:
    op.create_table(
        "builds",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("asked", JSON, nullable=False),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("model_digest", sa.String(64)),
        sa.Column("index_digest", sa.String(64)),
        sa.Column("error_type", sa.String(64)),
        sa.Column("error_detail", sa.Text()),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_builds"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_builds_tenant_id"),
        sa.CheckConstraint(STATUS, name=op.f("ck_builds_status")),
    )
    op.create_index("ix_builds_tenant_id_name", "builds", ["tenant_id", "name"])


def _pieces() -> None:
    op.create_table(
        "build_pieces",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("build_id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("recipe", sa.String(64), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("work", sa.Float(53), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("progress", sa.Float(53), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(36)),
        sa.Column("lease_until", INSTANT),
        sa.Column("worker_id", sa.String(36)),
        sa.Column("next_ring_at", INSTANT),
        sa.Column("rings", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_build_pieces"),
        sa.ForeignKeyConstraint(["build_id"], ["builds.id"], name="fk_build_pieces_build_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_build_pieces_tenant_id"),
        sa.UniqueConstraint("build_id", "name", name="uq_build_pieces_build_id_name"),
        sa.CheckConstraint(STATUS, name=op.f("ck_build_pieces_status")),
        sa.CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name=op.f("ck_build_pieces_lease")),
    )
    op.create_index("ix_build_pieces_status_ring", "build_pieces", ["status", "next_ring_at"])
    op.create_index("ix_build_pieces_status_lease", "build_pieces", ["status", "lease_until"])
