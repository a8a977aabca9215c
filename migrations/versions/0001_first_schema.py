"""The first schema: catalogue, models, attributions and their influences, workers; and the default tenant."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.db import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = UtcDateTime()
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    _tenants()
    _models()
    _songs()
    _attributions()
    _rights()
    _training_songs()
    _workers()
    _influences()


def downgrade() -> None:
    for table in ("influences", "workers", "training_songs", "rights", "attributions", "songs", "models", "tenants"):
        op.drop_table(table)


def _tenants() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
    )
    op.bulk_insert(tenants, [{"id": "default", "name": "Default", "created_at": datetime.now(UTC)}])


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("index_digest", sa.String(64), nullable=False),
        sa.Column("segment_seconds", sa.Float(53), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("songs", sa.Integer(), nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_models_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("tenant_id", "name", "index_digest", name="uq_models_tenant_id_name_index_digest"),
    )


def _songs() -> None:
    op.create_table(
        "songs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("title", sa.String(500), nullable=False),
        sa.Column("artist", sa.String(500), nullable=False),
        sa.Column("isrc", sa.String(12)),
        sa.Column("iswc", sa.String(11)),
        sa.Column("upc", sa.String(14)),
        sa.Column("duration_s", sa.Float(53)),
        sa.Column("licence", sa.String(200), nullable=False),
        sa.Column("training_policy", sa.String(16), nullable=False),
        sa.Column("audio_key", sa.String(200)),
        sa.Column("audio_sha256", sa.String(64)),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.CheckConstraint("training_policy IN ('allow', 'limit', 'block')", name="ck_songs_training_policy"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_songs_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_songs"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_songs_tenant_id_key"),
    )
    op.create_index("ix_songs_tenant_id_artist", "songs", ["tenant_id", "artist"])
    op.create_index("ix_songs_tenant_id_isrc", "songs", ["tenant_id", "isrc"])


def _attributions() -> None:
    op.create_table(
        "attributions",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("model_id", sa.String(36), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16)),
        sa.Column("progress", sa.Float(53), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("prompt", sa.Text()),
        sa.Column("external_id", sa.String(200)),
        sa.Column("top_k", sa.Integer(), nullable=False),
        sa.Column("filename", sa.String(300)),
        sa.Column("audio_key", sa.String(200), nullable=False),
        sa.Column("audio_sha256", sa.String(64), nullable=False),
        sa.Column("audio_bytes", sa.Integer(), nullable=False),
        sa.Column("audio_facts", JSON, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(36)),
        sa.Column("lease_until", INSTANT),
        sa.Column("worker_id", sa.String(36)),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("not_before", INSTANT),
        sa.Column("next_ring_at", INSTANT),
        sa.Column("rings", sa.Integer(), nullable=False),
        sa.Column("error_type", sa.String(64)),
        sa.Column("error_detail", sa.Text()),
        sa.Column("model_digest", sa.String(64)),
        sa.Column("index_digest", sa.String(64)),
        sa.Column("unattributed", sa.Float(53)),
        sa.Column("reliability", JSON, nullable=False),
        sa.Column("timings", JSON, nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="ck_attributions_lease"),
        sa.CheckConstraint("method IN ('index', 'unlearn')", name="ck_attributions_method"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')",
            name="ck_attributions_status",
        ),
        sa.CheckConstraint("attempts >= 0", name="ck_attributions_attempts"),
        sa.CheckConstraint("progress >= 0 AND progress <= 1", name="ck_attributions_progress"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_attributions_model_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_attributions_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attributions"),
    )
    op.create_index("ix_attributions_model_id", "attributions", ["model_id"])
    op.create_index("ix_attributions_status_expiry", "attributions", ["status", "expires_at"])
    op.create_index("ix_attributions_status_lease", "attributions", ["status", "lease_until"])
    op.create_index("ix_attributions_status_ring", "attributions", ["status", "next_ring_at"])
    op.create_index("ix_attributions_tenant_id_created_at_id", "attributions", ["tenant_id", "created_at", "id"])


def _rights() -> None:
    op.create_table(
        "rights",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("song_id", sa.String(36), nullable=False),
        sa.Column("party", sa.String(300), nullable=False),
        sa.Column("role", sa.String(50), nullable=False),
        sa.Column("ipi", sa.String(11)),
        sa.Column("isni", sa.String(16)),
        sa.Column("share", sa.Float(53), nullable=False),
        sa.CheckConstraint("share >= 0 AND share <= 1", name="ck_rights_share"),
        sa.ForeignKeyConstraint(["song_id"], ["songs.id"], name="fk_rights_song_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_rights_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rights"),
    )
    op.create_index("ix_rights_song_id", "rights", ["song_id"])


def _training_songs() -> None:
    op.create_table(
        "training_songs",
        sa.Column("model_id", sa.String(36), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("song_id", sa.String(36), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_training_songs_model_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["song_id"], ["songs.id"], name="fk_training_songs_song_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_training_songs_tenant_id"),
        sa.PrimaryKeyConstraint("model_id", "key", name="pk_training_songs"),
        sa.UniqueConstraint("model_id", "song_id", name="uq_training_songs_model_id_song_id"),
    )
    op.create_index("ix_training_songs_song_id", "training_songs", ["song_id"])


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("hostname", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.String(36)),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_workers_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )


def _influences() -> None:
    op.create_table(
        "influences",
        sa.Column("attribution_id", sa.String(36), nullable=False),
        sa.Column("song_id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("model_id", sa.String(36), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(53), nullable=False),
        sa.Column("share", sa.Float(53), nullable=False),
        sa.Column("percentile", sa.Float(53), nullable=False),
        sa.Column("check_delta", sa.Float(53)),
        sa.Column("matches", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint("share >= 0", name="ck_influences_share"),
        sa.ForeignKeyConstraint(
            ["attribution_id"], ["attributions.id"], name="fk_influences_attribution_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_influences_model_id"),
        sa.ForeignKeyConstraint(["song_id"], ["songs.id"], name="fk_influences_song_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_influences_tenant_id"),
        sa.PrimaryKeyConstraint("attribution_id", "song_id", name="pk_influences"),
    )
    op.create_index("ix_influences_attribution_rank", "influences", ["attribution_id", "rank"], unique=True)
    op.create_index("ix_influences_history", "influences", ["tenant_id", "song_id", "created_at", "attribution_id"])
