"""Create the ledger: its tables, the triggers that let it only grow, the rights of its writers, and its identity."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_MOMENT = sa.DateTime(timezone=True)
# SQLite counts only columns of type INTEGER.
_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ZERO = sa.text("0")

_RUNS_STAY = "The ledger only grows: a run is written once and stays as it is."
_ATTEMPTS_STAY = "The ledger only grows: an attempt is written before it is sent, and changed once, to give it its outcome."
_PART_STAYS = "The ledger only grows: an attempt stays with the part of a batch that it was sent with."
_MARK_STAYS = "The ledger only grows: when an attempt was recovered is written with it, and never changes."
# Two quotes are one in a text of SQL.
_UNSEALED = (
    f"{_ATTEMPTS_STAY} An outcome comes with its seal: is this worker older than the ledger''s schema?"
)
_UNHASHED = (
    "The ledger only grows: a row is written with its hash. Is this worker older than the ledger''s schema?"
)
_ENTRIES_STAY = "The ledger only grows: write a correction as a new entry that points at the old one."
_HEADS_MOVE_ON = "The ledger only grows: the head of a tenant moves on by one entry at a time."
_SEALS_STAY = "The ledger only grows: a seal stays as it was set."
_SEAL_HEADS_MOVE_ON = "The ledger only grows: the head of a chain of seals moves on by one seal at a time."
_COMPARISONS_STAY = "The ledger only grows: a comparison stays as it was made, make a new one."
_BUDGETS_STAY = "The ledger only grows: a budget stays as it was decided, decide anew."
_SPEND_STAYS = "The ledger only grows: what a tenant has spent is counted on, and never taken out."
_IDENTITY_STAYS = "The ledger only grows: its identity was made with it, and never changes."

_BROKEN_HEAD = "NEW.tenant <> OLD.tenant OR NEW.entries <> OLD.entries + 1"
_BROKEN_SEAL_HEAD = "NEW.chain <> OLD.chain OR NEW.seals <> OLD.seals + 1"
_KEY_OF_SPEND = ("tenant", "span", "simulated")
# What is known of an attempt before it is sent. `simulated` is not among it: the answer may correct it.
_BEGUN = (
    "attempt_id",
    "run_id",
    "number",
    "client_request_id",
    "workflow_run_id",
    "model",
    "provider",
    "reserved_micro_usd",
    "sent_at",
    "batch_part",
    "begun_hash",
)
# The columns that a worker may update, by table. Locking a row takes the right to update a column of it, also where a
# trigger refuses every update: `runs` has `created_at` for that alone.
_MAY_UPDATE = {
    "runs": ("created_at",),
    "provider_attempts": (
        "outcome",
        "finished_at",
        "latency_ms",
        "http_status",
        "provider_request_id",
        "error_type",
        "error_code",
        "error_message",
        "size",
        "quality",
        "output_format",
        "background",
        "response",
        "raw_body",
        "images",
        "simulated",
        "seal",
    ),
    "ledger_entries": (),
    "ledger_heads": ("entries", "entry_hash"),
    "budgets": (),
    "provider_comparisons": (),
    "tenant_spend": ("used_micro_usd", "reserved_micro_usd", "unpriced"),
    "seals": (),
    "seal_heads": ("seals", "seal_hash"),
}


def upgrade() -> None:
    """Create everything."""
    _create_runs()
    _create_provider_attempts()
    _create_ledger_entries()
    _create_ledger_heads()
    _create_seals()
    _create_provider_comparisons()
    _create_budgets()
    _create_tenant_spend()
    _create_batches()
    _create_batch_lines()
    # Before the guards, which refuse any further identity.
    _create_identity()
    if op.get_bind().dialect.name == "postgresql":
        _guard_on_postgresql()
        _narrow_rights()
    else:
        _guard_on_sqlite()


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("requested_model", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("run_hash", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
        sa.UniqueConstraint("tenant", "request_id", name="uq_runs_tenant_request_id"),
    )


def _create_provider_attempts() -> None:
    op.create_table(
        "provider_attempts",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("client_request_id", sa.Text(), nullable=False),
        sa.Column("workflow_run_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, server_default=sa.text("'unknown'")),
        sa.Column("reserved_micro_usd", sa.BigInteger()),
        sa.Column("sent_at", _MOMENT, nullable=False),
        sa.Column("finished_at", _MOMENT),
        sa.Column("latency_ms", sa.Integer()),
        sa.Column("http_status", sa.Integer()),
        sa.Column("provider_request_id", sa.Text()),
        sa.Column("error_type", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("size", sa.Text()),
        sa.Column("quality", sa.Text()),
        sa.Column("output_format", sa.Text()),
        sa.Column("background", sa.Text()),
        sa.Column("response", sa.Text()),
        sa.Column("raw_body", sa.Text()),
        sa.Column("images", sa.Text()),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("batch_part", sa.Text()),
        sa.Column("recovered_at", _MOMENT),
        sa.Column("begun_hash", sa.Text()),
        sa.Column("seal", sa.Text()),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_provider_attempts"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_provider_attempts_run_id"),
        sa.UniqueConstraint("client_request_id", name="uq_provider_attempts_client_request_id"),
        sa.UniqueConstraint("run_id", "number", name="uq_provider_attempts_run_id_number"),
        sa.CheckConstraint("number >= 1", name="ck_provider_attempts_number"),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'rejected', 'not_sent', 'unknown')", name="ck_provider_attempts_outcome"
        ),
        sa.CheckConstraint(
            "outcome = 'unknown' OR finished_at IS NOT NULL", name="ck_provider_attempts_finished"
        ),
    )
    op.create_index("ix_provider_attempts_batch_part", "provider_attempts", ["batch_part"])
    # Only the rows that the worker counts every half minute.
    unknown = sa.text("outcome = 'unknown'")
    op.create_index(
        "ix_provider_attempts_outcome_sent_at",
        "provider_attempts",
        ["outcome", "sent_at"],
        sqlite_where=unknown,
        postgresql_where=unknown,
    )


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
        sa.Column("actor", sa.Text()),
        sa.Column("sent_at", _MOMENT, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("entry_hash", sa.Text(), nullable=False),
        *_rules_of_ledger_entries(),
        # Never count a number twice, even after the newest row was lost with a restored backup.
        sqlite_autoincrement=True,
    )
    for columns in (
        ["run_id", "sequence"],
        ["tenant", "sequence"],
        ["model", "sequence"],
        ["created_at"],
        ["corrects"],
        ["attempt_id"],
    ):
        op.create_index(f"ix_ledger_entries_{'_'.join(columns)}", "ledger_entries", columns)
    # Only the rows that the worker counts every half minute.
    waiting = sa.text("kind IN ('hold', 'estimate')")
    op.create_index(
        "ix_ledger_entries_kind_created_at",
        "ledger_entries",
        ["kind", "created_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )


def _rules_of_ledger_entries() -> tuple[sa.Constraint, ...]:
    return (
        sa.PrimaryKeyConstraint("sequence", name="pk_ledger_entries"),
        sa.UniqueConstraint("entry_id", name="uq_ledger_entries_entry_id"),
        sa.UniqueConstraint("entry_key", name="uq_ledger_entries_entry_key"),
        # Two entries after the same one would be a fork of the tenant's chain.
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


def _create_ledger_heads() -> None:
    op.create_table(
        "ledger_heads",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("entry_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_ledger_heads"),
    )


def _create_seals() -> None:
    op.create_table(
        "seals",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("seal_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "number", name="pk_seals"),
        sa.UniqueConstraint("seal_hash", name="uq_seals_seal_hash"),
        sa.CheckConstraint("kind IN ('attempt', 'budget', 'comparison', 'identity')", name="ck_seals_kind"),
    )
    op.create_index("ix_seals_subject", "seals", ["subject"])
    op.create_table(
        "seal_heads",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seals", sa.BigInteger(), nullable=False),
        sa.Column("seal_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name="pk_seal_heads"),
    )


def _create_provider_comparisons() -> None:
    op.create_table(
        "provider_comparisons",
        sa.Column("sequence", _COUNTED, autoincrement=True, nullable=False),
        sa.Column("comparison_id", sa.Text(), nullable=False),
        sa.Column("comparison_key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("comparison", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_provider_comparisons"),
        sa.UniqueConstraint("comparison_id", name="uq_provider_comparisons_comparison_id"),
        sa.UniqueConstraint("comparison_key", name="uq_provider_comparisons_comparison_key"),
        sa.CheckConstraint(
            "verdict IN ('equal', 'explained', 'unexplained')", name="ck_provider_comparisons_verdict"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_provider_comparisons_day", "provider_comparisons", ["day"])


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
        sa.Column("created_at", _MOMENT, nullable=False),
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
        sa.PrimaryKeyConstraint(*_KEY_OF_SPEND, name="pk_tenant_spend"),
    )


# Batches and their lines are working tables: they change while a batch runs and have no guards.
def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("pages_registered", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("window", sa.Integer(), nullable=False),
        sa.Column("max_cost_micro_usd", sa.BigInteger()),
        sa.Column("fail_fast", sa.Boolean(), nullable=False),
        sa.Column("economy", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("failed_before", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("waiting", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("running", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("done", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("failed", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("cancelled", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("skipped", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("images", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("pending", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("unknown", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("charged_micro_usd", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("reserved_micro_usd", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("exposed_micro_usd", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT),
        sa.PrimaryKeyConstraint("batch_id", name="pk_batches"),
        sa.CheckConstraint(
            "state IN ('registering', 'running', 'paused', 'cancelling', 'done', 'stopped', 'capped', 'cancelled')",
            name="ck_batches_state",
        ),
    )
    op.create_index("ix_batches_created_at", "batches", ["created_at"])


def _create_batch_lines() -> None:
    op.create_table(
        "batch_lines",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("workflow_run_id", sa.Text()),
        sa.Column("attached", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("ceiling_micro_usd", sa.BigInteger()),
        sa.Column("unknown", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("exposed_micro_usd", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("error_type", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("started_at", _MOMENT),
        sa.Column("looked_at", _MOMENT),
        sa.Column("ended_at", _MOMENT),
        sa.PrimaryKeyConstraint("batch_id", "line", name="pk_batch_lines"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.batch_id"], name="fk_batch_lines_batch_id_batches"),
        sa.CheckConstraint(
            "state IN ('waiting', 'starting', 'running', 'done', 'failed', 'cancelled', 'skipped')",
            name="ck_batch_lines_state",
        ),
        sa.CheckConstraint("state = 'skipped' OR run_id IS NOT NULL", name="ck_batch_lines_run"),
    )
    op.create_index("ix_batch_lines_batch_id_state_line", "batch_lines", ["batch_id", "state", "line"])


def _create_identity() -> None:
    """Create the one row that tells this ledger from others, which a copy or a restored backup keeps, and its seal."""
    table = op.create_table(
        "ledger_identity",
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
    # In UTC to the microsecond, as the hash has it on both databases.
    stored = {**row, "created_at": now.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")}
    seal: dict[str, Any] = {
        "chain": "*ledger",
        "number": 1,
        "kind": "identity",
        "subject": row["ledger_id"],
        "content_hash": _hash_row(stored),
        "previous_hash": "0" * 64,
    }
    seal["seal_hash"] = _hash_row(seal)
    _insert("seals", seal)
    _insert("seal_heads", {"chain": seal["chain"], "seals": 1, "seal_hash": seal["seal_hash"]})


# A copy of what `gpt_image_runs.billing.hash_chain` does with a row of texts and integers. A migration imports no
# code of the application: that may change or move, and the migration must do tomorrow what it did when it was released.
def _hash_row(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _insert(table: str, row: Mapping[str, Any]) -> None:
    op.get_bind().execute(sa.table(table, *map(sa.column, row)).insert(), row)


def _guard_on_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = TG_ARGV[0];
        END
        $$
    """)
    row, statement = "FOR EACH ROW", "FOR EACH STATEMENT"
    another_attempt = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in _BEGUN)
    another_part = "OLD.batch_part IS DISTINCT FROM NEW.batch_part"
    another_recovery = "OLD.recovered_at IS DISTINCT FROM NEW.recovered_at"
    another_spend = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in _KEY_OF_SPEND)
    for table, name, change, condition, sentence in (
        ("runs", "update_or_delete", "UPDATE OR DELETE", row, _RUNS_STAY),
        ("runs", "truncate", "TRUNCATE", statement, _RUNS_STAY),
        ("runs", "unhashed", "INSERT", f"{row} WHEN (NEW.run_hash IS NULL)", _UNHASHED),
        ("provider_attempts", "delete", "DELETE", row, _ATTEMPTS_STAY),
        ("provider_attempts", "truncate", "TRUNCATE", statement, _ATTEMPTS_STAY),
        ("provider_attempts", "another_part", "UPDATE", f"{row} WHEN ({another_part})", _PART_STAYS),
        ("provider_attempts", "update", "UPDATE", f"{row} WHEN (OLD.outcome <> 'unknown' OR {another_attempt})", _ATTEMPTS_STAY),
        ("provider_attempts", "unsealed", "UPDATE", f"{row} WHEN (NEW.seal IS NOT DISTINCT FROM OLD.seal)", _UNSEALED),
        ("provider_attempts", "unhashed", "INSERT", f"{row} WHEN (NEW.begun_hash IS NULL)", _UNHASHED),
        ("provider_attempts", "another_recovery", "UPDATE", f"{row} WHEN ({another_recovery})", _MARK_STAYS),
        ("ledger_entries", "update_or_delete", "UPDATE OR DELETE", row, _ENTRIES_STAY),
        ("ledger_entries", "truncate", "TRUNCATE", statement, _ENTRIES_STAY),
        ("ledger_heads", "update", "UPDATE", f"{row} WHEN ({_BROKEN_HEAD})", _HEADS_MOVE_ON),
        ("ledger_heads", "delete", "DELETE", row, _HEADS_MOVE_ON),
        ("ledger_heads", "truncate", "TRUNCATE", statement, _HEADS_MOVE_ON),
        ("seals", "update_or_delete", "UPDATE OR DELETE", row, _SEALS_STAY),
        ("seals", "truncate", "TRUNCATE", statement, _SEALS_STAY),
        ("seal_heads", "update", "UPDATE", f"{row} WHEN ({_BROKEN_SEAL_HEAD})", _SEAL_HEADS_MOVE_ON),
        ("seal_heads", "delete", "DELETE", row, _SEAL_HEADS_MOVE_ON),
        ("seal_heads", "truncate", "TRUNCATE", statement, _SEAL_HEADS_MOVE_ON),
        ("provider_comparisons", "update_or_delete", "UPDATE OR DELETE", row, _COMPARISONS_STAY),
        ("provider_comparisons", "truncate", "TRUNCATE", statement, _COMPARISONS_STAY),
        ("budgets", "update_or_delete", "UPDATE OR DELETE", row, _BUDGETS_STAY),
        ("budgets", "truncate", "TRUNCATE", statement, _BUDGETS_STAY),
        ("tenant_spend", "update", "UPDATE", f"{row} WHEN ({another_spend})", _SPEND_STAYS),
        ("tenant_spend", "delete", "DELETE", row, _SPEND_STAYS),
        ("tenant_spend", "truncate", "TRUNCATE", statement, _SPEND_STAYS),
        ("ledger_identity", "insert_update_or_delete", "INSERT OR UPDATE OR DELETE", row, _IDENTITY_STAYS),
        ("ledger_identity", "truncate", "TRUNCATE", statement, _IDENTITY_STAYS),
    ):  # fmt: skip
        op.execute(
            f"CREATE TRIGGER {table}_refuse_{name} BEFORE {change} ON {table}"
            f" {condition} EXECUTE FUNCTION refuse_change('{sentence}')"
        )


def _narrow_rights() -> None:
    """Let whoever was given UPDATE on all tables update only the columns that have to change.

    deploy/postgres/databases.sql gives it to the worker's role, by default, on each table that the owner makes.
    """
    query = sa.text(
        "SELECT DISTINCT grantee FROM information_schema.role_table_grants WHERE table_schema = current_schema()"
        " AND table_name = :table AND privilege_type = 'UPDATE' AND grantee <> current_user"
    )
    quote = op.get_bind().dialect.identifier_preparer.quote_identifier
    for table, columns in _MAY_UPDATE.items():
        for role in op.get_bind().execute(query, {"table": table}).scalars().all():
            name = role if role == "PUBLIC" else quote(role)
            op.execute(f"REVOKE UPDATE ON {table} FROM {name}")
            if columns:
                op.execute(f"GRANT UPDATE ({', '.join(columns)}) ON {table} TO {name}")


def _guard_on_sqlite() -> None:
    another_attempt = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in _BEGUN)
    another_spend = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in _KEY_OF_SPEND)
    attempt_is_taken = _taken("provider_attempts", "attempt_id", "client_request_id", "run_id, number")
    entry_is_taken = _taken("ledger_entries", "sequence", "entry_id", "entry_key", "tenant, previous_hash")
    comparison_is_taken = _taken("provider_comparisons", "sequence", "comparison_id", "comparison_key")
    # INSERT OR REPLACE deletes the row in its way without asking a DELETE trigger: refused before it comes to that.
    for table, name, change, condition, sentence in (
        ("runs", "update", "UPDATE", "", _RUNS_STAY),
        ("runs", "delete", "DELETE", "", _RUNS_STAY),
        ("runs", "insert", "INSERT", _taken("runs", "run_id", "tenant, request_id"), _RUNS_STAY),
        ("runs", "unhashed", "INSERT", "NEW.run_hash IS NULL", _UNHASHED),
        ("provider_attempts", "delete", "DELETE", "", _ATTEMPTS_STAY),
        ("provider_attempts", "insert", "INSERT", attempt_is_taken, _ATTEMPTS_STAY),
        ("provider_attempts", "another_part", "UPDATE", "OLD.batch_part IS NOT NEW.batch_part", _PART_STAYS),
        ("provider_attempts", "update", "UPDATE", f"OLD.outcome <> 'unknown' OR {another_attempt}", _ATTEMPTS_STAY),
        ("provider_attempts", "unsealed", "UPDATE", "NEW.seal IS OLD.seal", _UNSEALED),
        ("provider_attempts", "unhashed", "INSERT", "NEW.begun_hash IS NULL", _UNHASHED),
        ("provider_attempts", "another_recovery", "UPDATE", "OLD.recovered_at IS NOT NEW.recovered_at", _MARK_STAYS),
        ("ledger_entries", "update", "UPDATE", "", _ENTRIES_STAY),
        ("ledger_entries", "delete", "DELETE", "", _ENTRIES_STAY),
        ("ledger_entries", "insert", "INSERT", entry_is_taken, _ENTRIES_STAY),
        ("ledger_heads", "update", "UPDATE", _BROKEN_HEAD, _HEADS_MOVE_ON),
        ("ledger_heads", "delete", "DELETE", "", _HEADS_MOVE_ON),
        ("ledger_heads", "insert", "INSERT", _taken("ledger_heads", "tenant"), _HEADS_MOVE_ON),
        ("seals", "update", "UPDATE", "", _SEALS_STAY),
        ("seals", "delete", "DELETE", "", _SEALS_STAY),
        ("seals", "insert", "INSERT", _taken("seals", "chain, number", "seal_hash"), _SEALS_STAY),
        ("seal_heads", "update", "UPDATE", _BROKEN_SEAL_HEAD, _SEAL_HEADS_MOVE_ON),
        ("seal_heads", "delete", "DELETE", "", _SEAL_HEADS_MOVE_ON),
        ("seal_heads", "insert", "INSERT", _taken("seal_heads", "chain"), _SEAL_HEADS_MOVE_ON),
        ("provider_comparisons", "update", "UPDATE", "", _COMPARISONS_STAY),
        ("provider_comparisons", "delete", "DELETE", "", _COMPARISONS_STAY),
        ("provider_comparisons", "insert", "INSERT", comparison_is_taken, _COMPARISONS_STAY),
        ("budgets", "update", "UPDATE", "", _BUDGETS_STAY),
        ("budgets", "delete", "DELETE", "", _BUDGETS_STAY),
        ("budgets", "insert", "INSERT", _taken("budgets", "sequence", "budget_key"), _BUDGETS_STAY),
        ("tenant_spend", "update", "UPDATE", another_spend, _SPEND_STAYS),
        ("tenant_spend", "delete", "DELETE", "", _SPEND_STAYS),
        ("tenant_spend", "insert", "INSERT", _taken("tenant_spend", ", ".join(_KEY_OF_SPEND)), _SPEND_STAYS),
        ("ledger_identity", "insert", "INSERT", "", _IDENTITY_STAYS),
        ("ledger_identity", "update", "UPDATE", "", _IDENTITY_STAYS),
        ("ledger_identity", "delete", "DELETE", "", _IDENTITY_STAYS),
    ):  # fmt: skip
        when = f" WHEN {condition}" if condition else ""
        op.execute(
            f"CREATE TRIGGER {table}_refuse_{name} BEFORE {change} ON {table}{when}"
            f" BEGIN SELECT RAISE(ABORT, '{sentence}'); END"
        )


def _taken(table: str, *keys: str) -> str:
    """Build the condition that one of the unique keys of the new row is there already."""
    return " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE ({key}) = (NEW.{key.replace(', ', ', NEW.')}))"  # noqa: S608  constants
        for key in keys
    )
