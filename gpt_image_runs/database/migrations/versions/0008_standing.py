"""Indexes that hold only what waits or may be lost, so that the worker can count it every half minute whatever else there is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds both indexes."""
    waiting, unknown = sa.text("kind IN ('hold', 'estimate')"), sa.text("outcome = 'unknown'")
    op.create_index(
        "ix_ledger_entries_kind_created_at",
        "ledger_entries",
        ["kind", "created_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index(
        "ix_provider_attempts_outcome_sent_at",
        "provider_attempts",
        ["outcome", "sent_at"],
        sqlite_where=unknown,
        postgresql_where=unknown,
    )
