"""Who decided on a correction. What was written before has no actor, and keeps its hash."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column to the entries."""
    op.add_column("ledger_entries", sa.Column("actor", sa.Text()))
