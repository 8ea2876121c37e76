"""The chain of hashes: each entry holds its own hash and the one before it of its tenant; heads tell where chains end.

Entries that are there already are linked in their order. What they hold is trusted as it stands on that day.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from gpt_image_runs.billing.hash_chain import genesis_hash, hash_entry

revision = "0002"
down_revision = "0001"

_PAGE = 1000
_OLD = "ledger_entries_0001"
_MOMENT = sa.DateTime(timezone=True)
_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_LEDGER_ONLY_GROWS = "The ledger only grows: write a correction as a new entry that points at the old one."
_HEADS_MOVE_ON = "The ledger only grows: the head of a tenant moves on by one entry at a time."
_BROKEN_HEAD = "NEW.tenant <> OLD.tenant OR NEW.entries <> OLD.entries + 1"

_INDEXES = (
    ["run_id", "sequence"],
    ["tenant", "sequence"],
    ["model", "sequence"],
    ["created_at"],
    ["corrects"],
    ["attempt_id"],
)


def upgrade() -> None:
    """Adds the hashes to the entries, and the table of heads."""
    op.create_table(
        "ledger_heads",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("entry_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_ledger_heads"),
    )
    if op.get_bind().dialect.name == "postgresql":
        _chain_on_postgresql()
        _guard_heads_on_postgresql()
    else:
        _chain_on_sqlite()
        _guard_heads_on_sqlite()


def _chain_on_postgresql() -> None:
    op.execute("DROP TRIGGER ledger_entries_refuse_update_or_delete ON ledger_entries")
    op.add_column("ledger_entries", sa.Column("previous_hash", sa.Text()))
    op.add_column("ledger_entries", sa.Column("entry_hash", sa.Text()))
    link = sa.text(
        "UPDATE ledger_entries SET previous_hash = :previous_hash, entry_hash = :entry_hash WHERE sequence = :sequence"
    )
    for entries in _link_entries("ledger_entries"):
        hashes = [
            {name: entry[name] for name in ("previous_hash", "entry_hash", "sequence")} for entry in entries
        ]
        op.get_bind().execute(link, hashes)
    op.alter_column("ledger_entries", "previous_hash", nullable=False)
    op.alter_column("ledger_entries", "entry_hash", nullable=False)
    op.create_unique_constraint(
        "uq_ledger_entries_tenant_previous_hash", "ledger_entries", ["tenant", "previous_hash"]
    )
    op.execute(
        "CREATE TRIGGER ledger_entries_refuse_update_or_delete BEFORE UPDATE OR DELETE ON ledger_entries"
        f" FOR EACH ROW EXECUTE FUNCTION refuse_change('{_LEDGER_ONLY_GROWS}')"
    )


def _chain_on_sqlite() -> None:
    """SQLite adds no column that must not be empty: the table is made anew, and its rows are copied as they are."""
    for change in ("update", "delete", "insert"):
        op.execute(f"DROP TRIGGER ledger_entries_refuse_{change}")
    op.rename_table("ledger_entries", _OLD)
    _create_ledger_entries()
    entries = sa.table("ledger_entries", *(sa.column(name) for name in _list_columns("ledger_entries")))
    for rows in _link_entries(_OLD):
        op.get_bind().execute(entries.insert(), rows)
    # A number that was given once is never given again, even where its row is gone.
    last = sa.text("SELECT 'ledger_entries', seq FROM sqlite_sequence WHERE name = :old").bindparams(old=_OLD)
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'ledger_entries'")
    op.execute(
        sa.table("sqlite_sequence", sa.column("name"), sa.column("seq"))
        .insert()
        .from_select(["name", "seq"], last.columns(sa.column("name"), sa.column("seq")))
    )
    # It goes with its indexes: without the one on `corrects`, each row's end would take a look at all others.
    op.drop_table(_OLD)
    for columns in _INDEXES:
        op.create_index(_name_index(columns), "ledger_entries", columns)
    _guard_entries_on_sqlite()


def _list_columns(table: str) -> list[str]:
    return [column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)]


def _name_index(columns: list[str]) -> str:
    return f"ix_ledger_entries_{'_'.join(columns)}"


def _link_entries(table: str) -> Iterator[list[dict[str, Any]]]:
    """All entries with their hashes, by the page and in their order; writes the heads in the end."""
    heads: dict[str, dict[str, Any]] = {}
    page = sa.text(f"SELECT * FROM {table} WHERE sequence > :after ORDER BY sequence LIMIT {_PAGE}")  # noqa: S608  constants
    after = 0
    while rows := op.get_bind().execute(page, {"after": after}).mappings().all():
        yield [_link_entry(dict(row), heads) for row in rows]
        after = rows[-1]["sequence"]
    if heads:
        table_of_heads = sa.table(
            "ledger_heads", sa.column("tenant"), sa.column("entries"), sa.column("entry_hash")
        )
        op.get_bind().execute(table_of_heads.insert(), list(heads.values()))


def _link_entry(entry: dict[str, Any], heads: dict[str, dict[str, Any]]) -> dict[str, Any]:
    tenant = entry["tenant"]
    head = heads.setdefault(tenant, {"tenant": tenant, "entries": 0, "entry_hash": genesis_hash(tenant)})
    entry["previous_hash"] = head["entry_hash"]
    entry["entry_hash"] = hash_entry(entry)
    head["entries"] += 1
    head["entry_hash"] = entry["entry_hash"]
    return entry


def _create_ledger_entries() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("sequence", _COUNTED, autoincrement=True, nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("entry_key", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount_micro_usd", sa.BigInteger()),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("rate_card", sa.Text()),
        sa.Column("rates", sa.Text(), nullable=False),
        sa.Column("line_items", sa.Text(), nullable=False),
        sa.Column("list_cost_micro_usd", sa.BigInteger()),
        sa.Column("list_rate_card", sa.Text()),
        sa.Column("list_rates", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("requested_model", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_request_id", sa.Text()),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("usage", sa.Text()),
        sa.Column("images", sa.Text(), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("size", sa.Text()),
        sa.Column("quality", sa.Text()),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("corrects", sa.Text()),
        sa.Column("sent_at", _MOMENT, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("entry_hash", sa.Text(), nullable=False),
        *_rules_of_ledger_entries(),
        sqlite_autoincrement=True,
    )


def _rules_of_ledger_entries() -> tuple[sa.Constraint, ...]:
    return (
        sa.PrimaryKeyConstraint("sequence", name="pk_ledger_entries"),
        sa.UniqueConstraint("entry_id", name="uq_ledger_entries_entry_id"),
        sa.UniqueConstraint("entry_key", name="uq_ledger_entries_entry_key"),
        sa.UniqueConstraint("tenant", "previous_hash", name="uq_ledger_entries_tenant_previous_hash"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_ledger_entries_run_id"),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["provider_attempts.attempt_id"], name="fk_ledger_entries_attempt_id"
        ),
        sa.ForeignKeyConstraint(["corrects"], ["ledger_entries.entry_id"], name="fk_ledger_entries_corrects"),
        sa.CheckConstraint(
            "kind IN ('charge', 'estimate', 'hold', 'adjustment', 'reversal')", name="ck_ledger_entries_kind"
        ),
        sa.CheckConstraint(
            "basis IN ('token_usage', 'size_quality_estimate', 'none')", name="ck_ledger_entries_basis"
        ),
        sa.CheckConstraint("(kind = 'hold') = (amount_micro_usd IS NULL)", name="ck_ledger_entries_amount"),
        sa.CheckConstraint("kind <> 'hold' OR reason IS NOT NULL", name="ck_ledger_entries_reason"),
        sa.CheckConstraint(
            "(kind IN ('adjustment', 'reversal')) = (corrects IS NOT NULL)", name="ck_ledger_entries_corrects"
        ),
    )


def _guard_heads_on_postgresql() -> None:
    for name, change, condition in (
        ("delete", "DELETE", "FOR EACH ROW"),
        ("update", "UPDATE", f"FOR EACH ROW WHEN ({_BROKEN_HEAD})"),
        ("truncate", "TRUNCATE", "FOR EACH STATEMENT"),
    ):
        op.execute(
            f"CREATE TRIGGER ledger_heads_refuse_{name} BEFORE {change} ON ledger_heads"
            f" {condition} EXECUTE FUNCTION refuse_change('{_HEADS_MOVE_ON}')"
        )


def _guard_heads_on_sqlite() -> None:
    _refuse_on_sqlite("ledger_heads", "UPDATE", _BROKEN_HEAD, _HEADS_MOVE_ON)
    _refuse_on_sqlite("ledger_heads", "DELETE", "1", _HEADS_MOVE_ON)
    _refuse_on_sqlite("ledger_heads", "INSERT", _taken("ledger_heads", "tenant"), _HEADS_MOVE_ON)


def _guard_entries_on_sqlite() -> None:
    _refuse_on_sqlite("ledger_entries", "UPDATE", "1", _LEDGER_ONLY_GROWS)
    _refuse_on_sqlite("ledger_entries", "DELETE", "1", _LEDGER_ONLY_GROWS)
    # INSERT OR REPLACE deletes the row in its way without asking a DELETE trigger: refused before it comes to that.
    keys = ("sequence", "entry_id", "entry_key", "tenant, previous_hash")
    _refuse_on_sqlite("ledger_entries", "INSERT", _taken("ledger_entries", *keys), _LEDGER_ONLY_GROWS)


def _taken(table: str, *keys: str) -> str:
    """Whether one of the unique keys of the new row is there already."""
    return " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE ({key}) = (NEW.{key.replace(', ', ', NEW.')}))"  # noqa: S608  constants
        for key in keys
    )


def _refuse_on_sqlite(table: str, change: str, condition: str, sentence: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_refuse_{change.lower()} BEFORE {change} ON {table}"
        f" WHEN {condition} BEGIN SELECT RAISE(ABORT, '{sentence}'); END"
    )
