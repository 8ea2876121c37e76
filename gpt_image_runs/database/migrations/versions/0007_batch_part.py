"""Which part of an economy batch an attempt was sent with. What was written before was sent by itself, and has none."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TABLE = "provider_attempts"
_ATTEMPTS_STAY = "The ledger only grows: an attempt stays with the part of a batch that it was sent with."


def upgrade() -> None:
    """Adds the column, its index, and its guard."""
    op.add_column(_TABLE, sa.Column("batch_part", sa.Text()))
    op.create_index("ix_provider_attempts_batch_part", _TABLE, ["batch_part"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {_TABLE}_refuse_another_part BEFORE UPDATE ON {_TABLE} FOR EACH ROW"
            " WHEN (OLD.batch_part IS DISTINCT FROM NEW.batch_part)"
            f" EXECUTE FUNCTION refuse_change('{_ATTEMPTS_STAY}')"
        )
    else:
        op.execute(
            f"CREATE TRIGGER {_TABLE}_refuse_another_part BEFORE UPDATE ON {_TABLE}"
            f" WHEN OLD.batch_part IS NOT NEW.batch_part BEGIN SELECT RAISE(ABORT, '{_ATTEMPTS_STAY}'); END"
        )
