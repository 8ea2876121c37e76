"""The tables of batches, as queries see them. They are no part of the ledger's truth: they change while a batch runs.

What a line has cost is in the ledger's entries and attempts alone. The counters of a batch move in the transaction that
changes its lines, so that nobody ever has to count them. Amounts are integers in micro-USD, moments are in UTC.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    false,
    text,
)

from billing.columns import PlainText, UtcDateTime
from billing.tables import metadata

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
