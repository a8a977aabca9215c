"""Rights-holders: one row a party, back-filled from the rights that name them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from app import words
from app.db import UtcDateTime
from app.models import new_id
from app.words import Words

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NAMELESS = sa.text("ipi IS NULL AND isni IS NULL")
LONGEST_PLAIN = 400
BATCH = 5_000


def upgrade() -> None:
    op.create_table(
        "holders",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(300), nullable=False),
        sa.Column("name_plain", sa.Text(), nullable=False),
        sa.Column("words", Words(), nullable=False),
        sa.Column("ipi", sa.String(11)),
        sa.Column("isni", sa.String(16)),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_holders_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_holders"),
    )
    op.create_index("uq_holders_tenant_id_ipi", "holders", ["tenant_id", "ipi"], unique=True)
    op.create_index("uq_holders_tenant_id_isni", "holders", ["tenant_id", "isni"], unique=True)
    op.create_index(
        "uq_holders_name",
        "holders",
        ["tenant_id", "name_plain"],
        unique=True,
        postgresql_where=NAMELESS,
        sqlite_where=NAMELESS,
    )
    op.create_index("ix_holders_tenant_id_id", "holders", ["tenant_id", "id"])
    if op.get_context().dialect.name == "postgresql":
        op.create_index("ix_holders_words", "holders", ["words"], postgresql_using="gin")
    op.add_column("rights", sa.Column("holder_id", sa.String(36)))
    _fill(op.get_bind())
    # Nothing points to a right, so the copy that SQLite needs takes nothing else with it.
    with op.batch_alter_table("rights") as rights:
        rights.alter_column("holder_id", existing_type=sa.String(36), nullable=False)
        rights.create_foreign_key("fk_rights_holder_id", "holders", ["holder_id"], ["id"])
        rights.create_index("ix_rights_holder_id", ["holder_id"])


def downgrade() -> None:
    with op.batch_alter_table("rights") as rights:
        rights.drop_index("ix_rights_holder_id")
        rights.drop_constraint("fk_rights_holder_id", type_="foreignkey")
        rights.drop_column("holder_id")
    op.drop_table("holders")


def _fill(connection: sa.Connection) -> None:
    names = ("id", "tenant_id", "party", "ipi", "isni", "holder_id")
    rights = sa.table("rights", *(sa.column(name, sa.Text()) for name in names))
    parties = sa.select(rights.c.tenant_id, rights.c.party, rights.c.ipi, rights.c.isni).distinct()
    # The fullest statement of a party first, so that a number is never alone where another place names both.
    rows = sorted(connection.execute(parties).all(), key=lambda row: (row.ipi is None, row.isni is None, row.party))
    made = _Made()
    filled = [{"of": tuple(row), "holder": made.holder(row)} for row in rows]
    if made.rows:
        connection.execute(sa.insert(_holders()), list(made.rows.values()))
    for each in filled:
        tenant, party, ipi, isni = each["of"]
        stated = (rights.c.ipi.is_not_distinct_from(ipi), rights.c.isni.is_not_distinct_from(isni))
        chosen = sa.update(rights).where(rights.c.tenant_id == tenant, rights.c.party == party, *stated)
        connection.execute(chosen.values(holder_id=each["holder"]))


def _holders() -> sa.TableClause:
    texts = ("id", "tenant_id", "name", "name_plain", "ipi", "isni")
    columns = [sa.column(name, sa.Text()) for name in texts]
    return sa.table("holders", *columns, sa.column("words", Words()), sa.column("created_at", UtcDateTime()))


class _Made:
    """Holders by what they are known by; where stored numbers contradict each other, the IPI decides."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._by: dict[tuple[str, str, str], str] = {}

    def holder(self, row: sa.Row[Any]) -> str:
        plain = words.plain(row.party)[:LONGEST_PLAIN]
        marks = [(row.tenant_id, kind, code) for kind, code in (("ipi", row.ipi), ("isni", row.isni)) if code]
        marks = marks or [(row.tenant_id, "name", plain)]
        return self._by.get(marks[0]) or self._new(row, plain, [mark for mark in marks if mark not in self._by])

    def _new(self, row: sa.Row[Any], plain: str, marks: list[tuple[str, str, str]]) -> str:
        ident, known = new_id(), {kind: code for _, kind, code in marks}
        self._by |= dict.fromkeys(marks, ident)
        self.rows[ident] = {
            "id": ident,
            "tenant_id": row.tenant_id,
            "name": row.party,
            "name_plain": plain,
            "words": words.split(row.party),
            "ipi": known.get("ipi"),
            "isni": known.get("isni"),
            "created_at": datetime.now(UTC),
        }
        return ident
