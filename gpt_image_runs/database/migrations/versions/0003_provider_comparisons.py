"""The comparisons with the provider's own books, which only grow like the ledger itself."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COMPARISONS_STAY = "The ledger only grows: a comparison stays as it was made, make a new one."
_TABLE = "provider_comparisons"


def upgrade() -> None:
    """Makes the table and its guards."""
    op.create_table(
        _TABLE,
        sa.Column("sequence", _COUNTED, autoincrement=True, nullable=False),
        sa.Column("comparison_id", sa.Text(), nullable=False),
        sa.Column("comparison_key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("comparison", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_provider_comparisons"),
        sa.UniqueConstraint("comparison_id", name="uq_provider_comparisons_comparison_id"),
        sa.UniqueConstraint("comparison_key", name="uq_provider_comparisons_comparison_key"),
        sa.CheckConstraint(
            "verdict IN ('equal', 'explained', 'unexplained')", name="ck_provider_comparisons_verdict"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_provider_comparisons_day", _TABLE, ["day"])
    if op.get_bind().dialect.name == "postgresql":
        _guard_on_postgresql()
    else:
        _guard_on_sqlite()


def _guard_on_postgresql() -> None:
    for name, change, scope in (
        ("update_or_delete", "UPDATE OR DELETE", "ROW"),
        ("truncate", "TRUNCATE", "STATEMENT"),
    ):
        op.execute(
            f"CREATE TRIGGER {_TABLE}_refuse_{name} BEFORE {change} ON {_TABLE}"
            f" FOR EACH {scope} EXECUTE FUNCTION refuse_change('{_COMPARISONS_STAY}')"
        )


def _guard_on_sqlite() -> None:
    # INSERT OR REPLACE deletes the row in its way without asking a DELETE trigger: refused before it comes to that.
    taken = " OR ".join(
        f"EXISTS (SELECT 1 FROM {_TABLE} WHERE {key} = NEW.{key})"  # noqa: S608  constants
        for key in ("sequence", "comparison_id", "comparison_key")
    )
    for change, condition in (("UPDATE", "1"), ("DELETE", "1"), ("INSERT", taken)):
        op.execute(
            f"CREATE TRIGGER {_TABLE}_refuse_{change.lower()} BEFORE {change} ON {_TABLE}"
            f" WHEN {condition} BEGIN SELECT RAISE(ABORT, '{_COMPARISONS_STAY}'); END"
        )
