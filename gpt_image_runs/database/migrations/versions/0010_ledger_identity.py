"""Give each ledger an identity: one row with a random id, which a copy or a restored backup keeps."""

import uuid
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_TABLE = "ledger_identity"
_MOMENT = sa.DateTime(timezone=True)
_IDENTITY_STAYS = "The ledger only grows: its identity was made with it, and never changes."


def upgrade() -> None:
    """Create the table, its one row and its guards."""
    table = op.create_table(
        _TABLE,
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ledger_id", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_ledger_identity"),
        sa.CheckConstraint("number = 1", name="ck_ledger_identity_number"),
    )
    now = datetime.now(UTC)
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    row = {
        "number": 1,
        "ledger_id": f"ldg_{uuid.uuid4().hex}",
        "created_at": now if is_postgresql else now.replace(tzinfo=None),
    }
    op.bulk_insert(table, [row])
    # After the insertion, as no other row is ever written.
    if is_postgresql:
        _guard_on_postgresql()
    else:
        _guard_on_sqlite()


def _guard_on_postgresql() -> None:
    for name, change, scope in (
        ("insert_update_or_delete", "INSERT OR UPDATE OR DELETE", "ROW"),
        ("truncate", "TRUNCATE", "STATEMENT"),
    ):
        op.execute(
            f"CREATE TRIGGER {_TABLE}_refuse_{name} BEFORE {change} ON {_TABLE}"
            f" FOR EACH {scope} EXECUTE FUNCTION refuse_change('{_IDENTITY_STAYS}')"
        )


def _guard_on_sqlite() -> None:
    # INSERT also stands for INSERT OR REPLACE, which deletes a row without running DELETE triggers.
    for change in ("INSERT", "UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {_TABLE}_refuse_{change.lower()} BEFORE {change} ON {_TABLE}"
            f" BEGIN SELECT RAISE(ABORT, '{_IDENTITY_STAYS}'); END"
        )
