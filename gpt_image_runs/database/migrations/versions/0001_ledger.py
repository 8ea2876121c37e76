"""The ledger: runs, provider attempts and entries, and the triggers that let them only grow."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_MOMENT = sa.DateTime(timezone=True)
_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_LEDGER_ONLY_GROWS = "The ledger only grows: write a correction as a new entry that points at the old one."
_RUNS_STAY = "The ledger only grows: a run is written once and stays as it is."
_ATTEMPTS_STAY = "The ledger only grows: an attempt is written before it is sent, and changed once, to give it its outcome."

_IDENTITY_OF_AN_ATTEMPT = (
    "attempt_id",
    "run_id",
    "number",
    "client_request_id",
    "workflow_run_id",
    "model",
    "provider",
    "reserved_micro_usd",
    "sent_at",
)


def upgrade() -> None:
    """Makes the three tables and their guards."""
    _create_runs()
    _create_provider_attempts()
    _create_ledger_entries()
    if op.get_bind().dialect.name == "postgresql":
        _guard_on_postgresql()
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
        *_rules_of_ledger_entries(),
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


def _rules_of_ledger_entries() -> tuple[sa.Constraint, ...]:
    return (
        sa.PrimaryKeyConstraint("sequence", name="pk_ledger_entries"),
        sa.UniqueConstraint("entry_id", name="uq_ledger_entries_entry_id"),
        sa.UniqueConstraint("entry_key", name="uq_ledger_entries_entry_key"),
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


def _guard_on_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = TG_ARGV[0];
        END
        $$
    """)
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in _IDENTITY_OF_AN_ATTEMPT)
    _refuse_on_postgresql("runs", "UPDATE OR DELETE", "", _RUNS_STAY)
    _refuse_on_postgresql("provider_attempts", "DELETE", "", _ATTEMPTS_STAY)
    _refuse_on_postgresql(
        "provider_attempts", "UPDATE", f"WHEN (OLD.outcome <> 'unknown' OR {changed})", _ATTEMPTS_STAY
    )
    _refuse_on_postgresql("ledger_entries", "UPDATE OR DELETE", "", _LEDGER_ONLY_GROWS)


def _refuse_on_postgresql(table: str, change: str, condition: str, sentence: str) -> None:
    name = f"{table}_refuse_{change.replace(' ', '_').lower()}"
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {change} ON {table}"
        f" FOR EACH ROW {condition} EXECUTE FUNCTION refuse_change('{sentence}')"
    )
    if "DELETE" in change:
        op.execute(
            f"CREATE TRIGGER {table}_refuse_truncate BEFORE TRUNCATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('{sentence}')"
        )


def _guard_on_sqlite() -> None:
    changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in _IDENTITY_OF_AN_ATTEMPT)
    _refuse_on_sqlite("runs", "UPDATE", "1", _RUNS_STAY)
    _refuse_on_sqlite("runs", "DELETE", "1", _RUNS_STAY)
    _refuse_on_sqlite("provider_attempts", "UPDATE", f"OLD.outcome <> 'unknown' OR {changed}", _ATTEMPTS_STAY)
    _refuse_on_sqlite("provider_attempts", "DELETE", "1", _ATTEMPTS_STAY)
    _refuse_on_sqlite("ledger_entries", "UPDATE", "1", _LEDGER_ONLY_GROWS)
    _refuse_on_sqlite("ledger_entries", "DELETE", "1", _LEDGER_ONLY_GROWS)
    # INSERT OR REPLACE deletes the row in its way without asking a DELETE trigger: refused before it comes to that.
    _refuse_on_sqlite("runs", "INSERT", _taken("runs", "run_id", "tenant, request_id"), _RUNS_STAY)
    _refuse_on_sqlite(
        "provider_attempts",
        "INSERT",
        _taken("provider_attempts", "attempt_id", "client_request_id", "run_id, number"),
        _ATTEMPTS_STAY,
    )
    _refuse_on_sqlite(
        "ledger_entries",
        "INSERT",
        _taken("ledger_entries", "sequence", "entry_id", "entry_key"),
        _LEDGER_ONLY_GROWS,
    )


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
