"""Budgets, which only grow like the ledger itself, and what each tenant has spent by day and by month.

What was spent before is counted here, from the attempts and the entries that are there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BUDGETS_STAY = "The ledger only grows: a budget stays as it was decided, decide anew."
_SPEND_STAYS = "The ledger only grows: what a tenant has spent is counted on, and never taken out."
_NAMES_OF_SPEND = ("tenant", "span", "simulated")
_LENGTHS = {"month": len("2026-11"), "day": len("2026-11-23")}


def upgrade() -> None:
    """Makes the tables and their guards, and counts what was spent."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    _create_budgets()
    _create_tenant_spend()
    if is_postgresql:
        # Whoever writes just now is waited for: what is counted has to be all there is.
        op.execute("LOCK TABLE provider_attempts, ledger_entries IN SHARE ROW EXCLUSIVE MODE")
    for length in _LENGTHS.values():
        _count_spend(length, is_postgresql=is_postgresql)
    if is_postgresql:
        _guard_on_postgresql()
    else:
        _guard_on_sqlite()


def _create_budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("sequence", _COUNTED, autoincrement=True, nullable=False),
        sa.Column("budget_key", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("limit_micro_usd", sa.BigInteger()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_budgets"),
        sa.UniqueConstraint("budget_key", name="uq_budgets_budget_key"),
        sa.CheckConstraint("period IN ('month', 'day')", name="ck_budgets_period"),
        sa.CheckConstraint("limit_micro_usd >= 0", name="ck_budgets_limit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_budgets_tenant_period_sequence", "budgets", ["tenant", "period", "sequence"])


def _create_tenant_spend() -> None:
    op.create_table(
        "tenant_spend",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("span", sa.Text(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("used_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("reserved_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*_NAMES_OF_SPEND, name="pk_tenant_spend"),
    )


def _count_spend(length: int, *, is_postgresql: bool) -> None:
    """An attempt with an amount has used it; else, where it was or may have been paid, its worst case is reserved."""
    moment = "to_char(timezone('UTC', a.sent_at), 'YYYY-MM-DD')" if is_postgresql else "a.sent_at"
    counts = "billed.amount IS NULL AND a.outcome IN ('succeeded', 'unknown')"
    query = f"""
        INSERT INTO tenant_spend (tenant, span, simulated, used_micro_usd, reserved_micro_usd, unpriced)
        SELECT runs.tenant, substr({moment}, 1, {length}), a.simulated,
            SUM(COALESCE(billed.amount, 0)),
            SUM(CASE WHEN {counts} THEN COALESCE(a.reserved_micro_usd, 0) ELSE 0 END),
            SUM(CASE WHEN {counts} AND a.reserved_micro_usd IS NULL THEN 1 ELSE 0 END)
        FROM provider_attempts AS a
        JOIN runs ON runs.run_id = a.run_id
        LEFT JOIN (
            SELECT attempt_id, SUM(amount_micro_usd) AS amount FROM ledger_entries GROUP BY attempt_id
        ) AS billed ON billed.attempt_id = a.attempt_id
        GROUP BY 1, 2, 3
    """  # noqa: S608  constants
    op.execute(query)


def _guard_on_postgresql() -> None:
    renamed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in _NAMES_OF_SPEND)
    for table, name, change, condition, sentence in (
        ("budgets", "update_or_delete", "UPDATE OR DELETE", "FOR EACH ROW", _BUDGETS_STAY),
        ("budgets", "truncate", "TRUNCATE", "FOR EACH STATEMENT", _BUDGETS_STAY),
        ("tenant_spend", "update", "UPDATE", f"FOR EACH ROW WHEN ({renamed})", _SPEND_STAYS),
        ("tenant_spend", "delete", "DELETE", "FOR EACH ROW", _SPEND_STAYS),
        ("tenant_spend", "truncate", "TRUNCATE", "FOR EACH STATEMENT", _SPEND_STAYS),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_refuse_{name} BEFORE {change} ON {table}"
            f" {condition} EXECUTE FUNCTION refuse_change('{sentence}')"
        )


def _guard_on_sqlite() -> None:
    renamed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in _NAMES_OF_SPEND)
    # INSERT OR REPLACE deletes the row in its way without asking a DELETE trigger: refused before it comes to that.
    for table, change, condition, sentence in (
        ("budgets", "UPDATE", "1", _BUDGETS_STAY),
        ("budgets", "DELETE", "1", _BUDGETS_STAY),
        ("budgets", "INSERT", _taken("budgets", "sequence", "budget_key"), _BUDGETS_STAY),
        ("tenant_spend", "UPDATE", renamed, _SPEND_STAYS),
        ("tenant_spend", "DELETE", "1", _SPEND_STAYS),
        ("tenant_spend", "INSERT", _taken("tenant_spend", ", ".join(_NAMES_OF_SPEND)), _SPEND_STAYS),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_refuse_{change.lower()} BEFORE {change} ON {table}"
            f" WHEN {condition} BEGIN SELECT RAISE(ABORT, '{sentence}'); END"
        )


def _taken(table: str, *keys: str) -> str:
    """Whether one of the unique keys of the new row is there already."""
    return " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE ({key}) = (NEW.{key.replace(', ', ', NEW.')}))"  # noqa: S608  constants
        for key in keys
    )
