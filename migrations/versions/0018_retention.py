"""What a tenant keeps and shows: for how long uploads stay, when one was erased, what rights-holders are told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.db import Json, UtcDateTime, utcnow

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("audio_days", sa.Integer()))
    op.add_column("tenants", sa.Column("shows_external_ids", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("attributions", sa.Column("audio_erased_at", UtcDateTime()))
    op.create_index("ix_attributions_tenant_id_finished_at", "attributions", ["tenant_id", "finished_at"])
    op.create_index("ix_songs_audio_key", "songs", ["audio_key"])
    op.create_index("ix_attributions_audio_key", "attributions", ["audio_key"])
    _retire_keys_of_nobody()
    with op.batch_alter_table("api_keys") as keys:
        keys.create_foreign_key("fk_api_keys_holder_id", "holders", ["holder_id"], ["id"])


def downgrade() -> None:
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_constraint("fk_api_keys_holder_id", type_="foreignkey")
    op.drop_index("ix_attributions_audio_key", "attributions")
    op.drop_index("ix_songs_audio_key", "songs")
    op.drop_index("ix_attributions_tenant_id_finished_at", "attributions")
    op.drop_column("attributions", "audio_erased_at")
    op.drop_column("tenants", "shows_external_ids")
    op.drop_column("tenants", "audio_days")


def _retire_keys_of_nobody() -> None:
    """A key of a holder that does not exist is revoked: without its holder it must not become a tenant's."""
    columns = (
        sa.Column("holder_id", sa.String(36)),
        sa.Column("scopes", Json),
        sa.Column("revoked_at", UtcDateTime()),
    )
    keys, holders = sa.table("api_keys", *columns), sa.table("holders", sa.Column("id", sa.String(36)))
    of_nobody = keys.c.holder_id.not_in(sa.select(holders.c.id))
    op.execute(keys.update().where(of_nobody).values(holder_id=None, scopes=[], revoked_at=utcnow()))
