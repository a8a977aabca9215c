"""What an answer is worth: provenance, intervals, effects and both directions of the check."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TRACK_FACTS = {
    "provenance_verdict": sa.String(16),
    "provenance_probability": sa.Float(53),
    "reference_loss": sa.Float(53),
    "calibrated": sa.Boolean(),
    "abstained": sa.Text(),
}
SONG_NUMBERS = ("score_low", "score_high", "effect", "share_low", "share_high", "check_forward")


# Plain ALTER TABLE throughout: Alembic's batches copy a table on SQLite and drop the old one, and with it, by cascade,
# every influence of every attribution.
def upgrade() -> None:
    for name, kind in TRACK_FACTS.items():
        op.add_column("attributions", sa.Column(name, kind))
    for name in SONG_NUMBERS:
        op.add_column("influences", sa.Column(name, sa.Float(53)))
    op.execute("ALTER TABLE influences RENAME COLUMN check_delta TO check_mirrored")


def downgrade() -> None:
    op.execute("ALTER TABLE influences RENAME COLUMN check_mirrored TO check_delta")
    for name in SONG_NUMBERS:
        op.drop_column("influences", name)
    for name in TRACK_FACTS:
        op.drop_column("attributions", name)
