"""Batches that run at half price in the provider's own batches stand among the others, and are told apart."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds the column; every batch so far runs at the standard price."""
    op.add_column("batches", sa.Column("economy", sa.Boolean(), nullable=False, server_default=sa.false()))
