"""The audit log, which only grows; and the search for words by callers whom row-level security holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.db import Json, UtcDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

GROWS = "the audit log only grows"
APPEND_ONLY = f"""
CREATE FUNCTION rootnote_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{GROWS}';
END $$
"""
# Under row-level security no index may be asked with `@@` before the policy, because the operator is not declared to
# keep its operands to itself. This function asks as the owner, for the tenant that the transaction names. The statement
# is planned anew each time: how rare a word is decides how it is looked for.
HOLDING = """
CREATE FUNCTION rootnote_holding(searched text, wanted tsquery, after text, at_most integer) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20 SET search_path = {schema}, pg_temp AS $$
BEGIN
    IF searched NOT IN ('songs', 'holders') THEN
        RAISE EXCEPTION 'words of % are not searched', searched;
    END IF;
    RETURN QUERY EXECUTE format('SELECT id::text FROM %I WHERE tenant_id = current_setting(''rootnote.tenant'', true)'
        ' AND words @@ $1 AND id > $2 ORDER BY id LIMIT $3', searched) USING wanted, after, at_most;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(36)),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(100), nullable=False),
        sa.Column("object_kind", sa.String(64)),
        sa.Column("object_id", sa.String(200)),
        sa.Column("request_id", sa.String(128)),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("outcome IN ('done', 'denied')", name="ck_audit_outcome"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_audit_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_tenant_id_id", "audit", ["tenant_id", "id"])
    op.create_index("ix_audit_tenant_id_object_id_id", "audit", ["tenant_id", "object_id", "id"])
    if op.get_context().dialect.name == "postgresql":
        _on_postgres()
    else:
        for verb in ("UPDATE", "DELETE"):
            refuse = f"BEGIN SELECT RAISE(ABORT, '{GROWS}'); END"
            op.execute(f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit {refuse}")


def downgrade() -> None:
    op.drop_table("audit")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION rootnote_append_only")
        op.execute("DROP FUNCTION rootnote_holding")


def _on_postgres() -> None:
    op.execute(APPEND_ONLY)
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION rootnote_append_only()"
    )
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(HOLDING.format(schema=schema))
    op.execute("REVOKE ALL ON FUNCTION rootnote_holding FROM PUBLIC")
