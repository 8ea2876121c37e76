"""The tables of the ledger and of batches. The triggers that make them append-only are in `migrations/`.

A run is written once and kept longer than Temporal keeps its history. An attempt is written before it is sent, and its outcome is
written once. A ledger entry never changes, and the head of its tenant advances with it. A new row changes a budget, and spend counters
are updated in the same transaction. Amounts are integers in micro-USD, moments are in UTC.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from gpt_image_runs.database.types import BigKey, JsonText, PlainText, UtcDateTime

# Written out in queries too: a database uses an index of some rows only where it sees that no others are asked for.
IS_WAITING = text("kind IN ('hold', 'estimate')")
IS_UNKNOWN = text("outcome = 'unknown'")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("workflow_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # See `gpt_image_runs.billing.seals`.
    Column("run_hash", Text),
    UniqueConstraint("tenant", "request_id"),
)

provider_attempts = Table(
    "provider_attempts",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey(runs.c.run_id), nullable=False),
    Column("number", Integer, nullable=False),
    Column("client_request_id", Text, nullable=False, unique=True),
    Column("workflow_run_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    # Pessimism by default: a crash between sending and answering leaves exactly what is true then.
    Column("outcome", Text, nullable=False, server_default=text("'unknown'")),
    Column("reserved_micro_usd", BigInteger),
    Column("sent_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("latency_ms", Integer),
    Column("http_status", Integer),
    Column("provider_request_id", PlainText),
    Column("error_type", PlainText),
    Column("error_code", PlainText),
    Column("error_message", PlainText),
    Column("size", PlainText),
    Column("quality", PlainText),
    Column("output_format", PlainText),
    Column("background", PlainText),
    Column("response", JsonText),
    Column("raw_body", PlainText),
    Column("images", JsonText),
    Column("simulated", Boolean, nullable=False),
    # Of a line that was sent in a batch of the provider: which of our batches, and which part of it.
    Column("batch_part", Text),
    # Of an attempt that the ledger had lost: when it was taken back from the image store or from Temporal.
    Column("recovered_at", UtcDateTime),
    # See `gpt_image_runs.billing.seals`: of what was known before it was sent, and of its outcome once it has one.
    Column("begun_hash", Text),
    Column("seal", Text),
    UniqueConstraint("run_id", "number"),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint("outcome IN ('succeeded', 'rejected', 'not_sent', 'unknown')", name="outcome"),
    CheckConstraint("outcome = 'unknown' OR finished_at IS NOT NULL", name="finished"),
    Index(None, "batch_part"),
    Index(None, "outcome", "sent_at", sqlite_where=IS_UNKNOWN, postgresql_where=IS_UNKNOWN),
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    # The order of entries, without duplicates but perhaps with gaps. It is the primary key because SQLite counts no
    # other column; outside the database an entry is known by its `entry_id`.
    Column("sequence", BigKey, primary_key=True, autoincrement=True),
    Column("entry_id", Text, nullable=False, unique=True),
    Column("entry_key", Text, nullable=False, unique=True),
    Column("run_id", Text, ForeignKey(runs.c.run_id), nullable=False),
    Column("tenant", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("attempt_id", Text, ForeignKey(provider_attempts.c.attempt_id), nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount_micro_usd", BigInteger),
    Column("basis", Text, nullable=False),
    Column("flags", JsonText, nullable=False),
    Column("reason", PlainText),
    Column("rate_card", Text),
    Column("rates", JsonText, nullable=False),
    Column("line_items", JsonText, nullable=False),
    Column("list_cost_micro_usd", BigInteger),
    Column("list_rate_card", Text),
    Column("list_rates", JsonText, nullable=False),
    Column("operation", Text, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("provider_request_id", PlainText),
    Column("simulated", Boolean, nullable=False),
    Column("usage", JsonText),
    Column("images", JsonText, nullable=False),
    Column("image_count", Integer, nullable=False),
    Column("size", PlainText),
    Column("quality", PlainText),
    Column("metadata", JsonText, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("corrects", Text, ForeignKey("ledger_entries.entry_id")),
    # Who decided on a correction; what the worker writes by itself has none.
    Column("actor", PlainText),
    Column("sent_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # See `gpt_image_runs.billing.hash_chain`. Two entries after the same one would be a fork: the database refuses the second.
    Column("previous_hash", Text, nullable=False),
    Column("entry_hash", Text, nullable=False),
    UniqueConstraint("tenant", "previous_hash"),
    CheckConstraint("kind IN ('charge', 'estimate', 'hold', 'adjustment', 'reversal')", name="kind"),
    CheckConstraint("basis IN ('token_usage', 'size_quality_estimate', 'none')", name="basis"),
    # Never silently zero: what cannot be billed yet has no amount and says why; everything else has an amount.
    CheckConstraint("(kind = 'hold') = (amount_micro_usd IS NULL)", name="amount"),
    CheckConstraint("kind <> 'hold' OR reason IS NOT NULL", name="reason"),
    CheckConstraint("(kind IN ('adjustment', 'reversal')) = (corrects IS NOT NULL)", name="corrects"),
    Index(None, "run_id", "sequence"),
    Index(None, "tenant", "sequence"),
    Index(None, "model", "sequence"),
    Index(None, "created_at"),
    Index(None, "corrects"),
    Index(None, "attempt_id"),
    Index(None, "kind", "created_at", sqlite_where=IS_WAITING, postgresql_where=IS_WAITING),
    # Never count a number twice, even after the newest row was lost with a restored backup.
    sqlite_autoincrement=True,
)

ledger_heads = Table(
    "ledger_heads",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("entries", BigInteger, nullable=False),
    Column("entry_hash", Text, nullable=False),
)

# See `gpt_image_runs.billing.seals`: each outcome of an attempt, each budget and each comparison, in chains like those of the entries.
seals = Table(
    "seals",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    # An attempt's id, or the key of a budget or a comparison.
    Column("subject", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("seal_hash", Text, nullable=False, unique=True),
    CheckConstraint("kind IN ('attempt', 'budget', 'comparison', 'identity')", name="kind"),
    Index(None, "subject"),
)

seal_heads = Table(
    "seal_heads",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("seals", BigInteger, nullable=False),
    Column("seal_hash", Text, nullable=False),
)

provider_comparisons = Table(
    "provider_comparisons",
    metadata,
    Column("sequence", BigKey, primary_key=True, autoincrement=True),
    Column("comparison_id", Text, nullable=False, unique=True),
    # Of the workflow's run: a comparison that is tried again is kept once.
    Column("comparison_key", Text, nullable=False, unique=True),
    Column("provider", Text, nullable=False),
    Column("day", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("comparison", JsonText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("verdict IN ('equal', 'explained', 'unexplained')", name="verdict"),
    Index(None, "day"),
    sqlite_autoincrement=True,
)

budgets = Table(
    "budgets",
    metadata,
    # The latest decision about a tenant and a period counts.
    Column("sequence", BigKey, primary_key=True, autoincrement=True),
    # Of the workflow's run and the period: a decision that is tried again is written once.
    Column("budget_key", Text, nullable=False, unique=True),
    Column("tenant", Text, nullable=False),
    Column("period", Text, nullable=False),
    # None where the budget is lifted.
    Column("limit_micro_usd", BigInteger),
    Column("reason", PlainText, nullable=False),
    Column("actor", PlainText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("period IN ('month', 'day')", name="period"),
    CheckConstraint("limit_micro_usd >= 0", name="limit"),
    Index(None, "tenant", "period", "sequence"),
    sqlite_autoincrement=True,
)

tenant_spend = Table(
    "tenant_spend",
    metadata,
    Column("tenant", Text, primary_key=True),
    # A month ("2026-11") or a day ("2026-11-23") of UTC, that in which the attempts were sent.
    Column("span", Text, primary_key=True),
    Column("simulated", Boolean, primary_key=True),
    Column("used_micro_usd", BigInteger, nullable=False),
    Column("reserved_micro_usd", BigInteger, nullable=False),
    # Attempts for which nothing could be reserved, as no price was known.
    Column("unpriced", BigInteger, nullable=False),
)

ledger_identity = Table(
    "ledger_identity",
    metadata,
    # One row, written by the migration that makes the table.
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("ledger_id", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("number = 1", name="number"),
)


COUNTERS = (
    "waiting",
    "running",
    "done",
    "failed",
    "cancelled",
    "skipped",
    "images",
    "pending",
    "unknown",
    "charged_micro_usd",
    "reserved_micro_usd",
    "exposed_micro_usd",
)
_ZERO = text("0")

batches = Table(
    "batches",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("pages", Integer, nullable=False),
    Column("pages_registered", Integer, nullable=False, server_default=_ZERO),
    Column("state", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("window", Integer, nullable=False),
    Column("max_cost_micro_usd", BigInteger),
    Column("fail_fast", Boolean, nullable=False),
    # In the provider's own batches, at half price.
    Column("economy", Boolean, nullable=False, server_default=false()),
    # Failures of earlier rounds do not stop a later one.
    Column("failed_before", Integer, nullable=False, server_default=_ZERO),
    *(Column(name, BigInteger, nullable=False, server_default=_ZERO) for name in COUNTERS),
    Column("reason", PlainText),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    CheckConstraint(
        "state IN ('registering', 'running', 'paused', 'cancelling', 'done', 'stopped', 'capped', 'cancelled')",
        name="state",
    ),
    Index(None, "created_at"),
)

batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", Text, ForeignKey(batches.c.batch_id), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("page", Integer, nullable=False),
    # Of a line that is skipped there is no run.
    Column("run_id", Text),
    Column("state", Text, nullable=False),
    Column("round", Integer, nullable=False),
    # Temporal's id of the execution that is followed: an earlier one of the same run may have failed before.
    Column("workflow_run_id", Text),
    # Somebody else has started it, so that it does not carry the batch's search attribute.
    Column("attached", Boolean, nullable=False, server_default=false()),
    # Of what is asked: an entry of the same run with another one is the bill of somebody else's request.
    Column("fingerprint", Text),
    Column("ceiling_micro_usd", BigInteger),
    # Of requests whose answer was lost, and of a bill that is pending: counted for the batch already.
    Column("unknown", Integer, nullable=False, server_default=_ZERO),
    Column("exposed_micro_usd", BigInteger, nullable=False, server_default=_ZERO),
    Column("error_type", PlainText),
    Column("error_message", PlainText),
    Column("started_at", UtcDateTime),
    Column("looked_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    CheckConstraint(
        "state IN ('waiting', 'starting', 'running', 'done', 'failed', 'cancelled', 'skipped')", name="state"
    ),
    CheckConstraint("state = 'skipped' OR run_id IS NOT NULL", name="run"),
    Index(None, "batch_id", "state", "line"),
)
