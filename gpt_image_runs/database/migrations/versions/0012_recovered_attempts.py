"""Mark attempts that were taken back into a ledger that had lost them. Attempts that were written before they were sent have no mark."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_TABLE = "provider_attempts"
_NAME = f"{_TABLE}_refuse_another_recovery"
_MARK_STAYS = "The ledger only grows: when an attempt was recovered is written with it, and never changes."


def upgrade() -> None:
    """Add the column and its guard."""
    op.add_column(_TABLE, sa.Column("recovered_at", sa.DateTime(timezone=True)))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {_NAME} BEFORE UPDATE ON {_TABLE} FOR EACH ROW"
            " WHEN (OLD.recovered_at IS DISTINCT FROM NEW.recovered_at)"
            f" EXECUTE FUNCTION refuse_change('{_MARK_STAYS}')"
        )
    else:
        op.execute(
            f"CREATE TRIGGER {_NAME} BEFORE UPDATE ON {_TABLE}"
            f" WHEN OLD.recovered_at IS NOT NEW.recovered_at BEGIN SELECT RAISE(ABORT, '{_MARK_STAYS}'); END"
        )
