"""Closed months: counted tracks, what songs have in them, the holders' statements and their lines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.db import UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = (
    *("statement_lines", "statements", "stated_songs", "stated_disputes", "stated_tracks"),
    *("closing_totals", "closings"),
)
FIXED = ("closings", "closing_totals", "stated_tracks", "stated_songs", "statements", "statement_lines")
BIG = sa.BigInteger()


def upgrade() -> None:
    _closings()
    _stated()
    _statements()
    _fix()


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION closed_months_stay()")


def _owned(table: str) -> tuple[sa.Column[str], sa.ForeignKeyConstraint]:
    return (
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=f"fk_{table}_tenant_id"),
    )


def _of_closing(table: str) -> tuple[sa.Column[str], sa.ForeignKeyConstraint]:
    return (
        sa.Column("closing_id", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(["closing_id"], ["closings.id"], name=f"fk_{table}_closing_id", ondelete="CASCADE"),
    )


def _month() -> sa.Column[str]:
    return sa.Column("month", sa.String(7), nullable=False)


def _sums(*names: str) -> tuple[sa.Column[int], ...]:
    return tuple(sa.Column(name, BIG, nullable=False) for name in names)


def _closings() -> None:
    op.create_table(
        "closings",
        sa.Column("id", sa.String(36), nullable=False),
        *_owned("closings"),
        _month(),
        sa.Column("closed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_closings"),
        sa.UniqueConstraint("tenant_id", "month", name="uq_closings_tenant_id_month"),
    )
    op.create_table(
        "closing_totals",
        *_of_closing("closing_totals"),
        _month(),
        *_owned("closing_totals"),
        *_sums("tracks", "attributed", "recordings", "works"),
        sa.PrimaryKeyConstraint("closing_id", "month", name="pk_closing_totals"),
    )


def _stated() -> None:
    op.create_table(
        "stated_tracks",
        sa.Column("attribution_id", sa.String(36), nullable=False),
        *_owned("stated_tracks"),
        *_of_closing("stated_tracks"),
        _month(),
        sa.PrimaryKeyConstraint("attribution_id", name="pk_stated_tracks"),
    )
    op.create_index("ix_stated_tracks_closing_id_month", "stated_tracks", ["closing_id", "month"])
    op.create_index("ix_stated_tracks_tenant_id", "stated_tracks", ["tenant_id"])
    op.create_table(
        "stated_disputes",
        sa.Column("attribution_id", sa.String(36), nullable=False),
        sa.Column("song_id", sa.String(36), nullable=False),
        *_owned("stated_disputes"),
        *_of_closing("stated_disputes"),
        sa.PrimaryKeyConstraint("attribution_id", "song_id", name="pk_stated_disputes"),
    )
    op.create_index("ix_stated_disputes_closing_id", "stated_disputes", ["closing_id"])
    op.create_table(
        "stated_songs",
        *_of_closing("stated_songs"),
        _month(),
        sa.Column("song_id", sa.String(36), nullable=False),
        *_owned("stated_songs"),
        *_sums("tracks", "amount"),
        sa.PrimaryKeyConstraint("closing_id", "month", "song_id", name="pk_stated_songs"),
    )
    op.create_index("ix_stated_songs_tenant_id_song_id_month", "stated_songs", ["tenant_id", "song_id", "month"])


def _holder(table: str) -> tuple[sa.Column[str], sa.ForeignKeyConstraint]:
    return (
        sa.Column("holder_id", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(["holder_id"], ["holders.id"], name=f"fk_{table}_holder_id"),
    )


def _statements() -> None:
    op.create_table(
        "statements",
        sa.Column("id", sa.String(36), nullable=False),
        *_owned("statements"),
        *_of_closing("statements"),
        _month(),
        *_holder("statements"),
        sa.Column("name", sa.String(300), nullable=False),
        sa.Column("ipi", sa.String(11)),
        sa.Column("isni", sa.String(16)),
        *_sums("recordings", "works"),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_statements"),
        sa.UniqueConstraint("closing_id", "holder_id", name="uq_statements_closing_id_holder_id"),
    )
    op.create_index("ix_statements_tenant_id_month_id", "statements", ["tenant_id", "month", "id"])
    op.create_index("ix_statements_tenant_id_holder_id_id", "statements", ["tenant_id", "holder_id", "id"])
    op.create_index("ix_statements_holder_id", "statements", ["holder_id"])
    op.create_table(
        "statement_lines",
        *_of_closing("statement_lines"),
        *_holder("statement_lines"),
        sa.Column("place", sa.Integer(), nullable=False, autoincrement=False),
        *_owned("statement_lines"),
        _month(),
        sa.Column("song_id", sa.String(36), nullable=False),
        sa.Column("side", sa.String(16), nullable=False),
        sa.Column("role", sa.String(50), nullable=False),
        sa.Column("isrc", sa.String(12)),
        sa.Column("iswc", sa.String(11)),
        sa.Column("title", sa.String(500), nullable=False),
        sa.Column("artist", sa.String(500), nullable=False),
        *_sums("parts", "tracks", "amount"),
        sa.CheckConstraint("side IN ('recording', 'work')", name="ck_statement_lines_side"),
        sa.PrimaryKeyConstraint("closing_id", "holder_id", "place", name="pk_statement_lines"),
    )
    op.create_index("ix_statement_lines_holder_id", "statement_lines", ["holder_id"])
    op.create_index("ix_statement_lines_tenant_id_song_id_month", "statement_lines", ["tenant_id", "song_id", "month"])


def _fix() -> None:
    """Let nothing that is closed be changed, whoever asks; a tenant that goes takes its rows along."""
    if op.get_context().dialect.name != "postgresql":
        for table in FIXED:
            op.execute(
                f"CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'what is closed stays as it is'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION closed_months_stay() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'what is closed stays as it is' USING ERRCODE = 'integrity_constraint_violation';"
        " END $$"
    )
    for table in FIXED:
        op.execute(
            f"CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION closed_months_stay()"
        )
