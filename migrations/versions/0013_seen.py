"""A job's life in the logs and in figures: the request that it came from, leases that lapsed, ends by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

JOBS = ("attributions", "counterfactuals")


def upgrade() -> None:
    for table in JOBS:
        op.add_column(table, sa.Column("lapses", sa.Integer(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("request_id", sa.String(128)))
    op.create_index("ix_attributions_finished_at", "attributions", ["finished_at"])


def downgrade() -> None:
    op.drop_index("ix_attributions_finished_at", "attributions")
    for table in JOBS:
        op.drop_column(table, "request_id")
        op.drop_column(table, "lapses")
